"""Search the settings of a recipe for the most accurate ones on your data.

  python -m sqznet.tune --data=data/mine --recipe=imagenette --epochs=12 --tuner=hyperband --trials=12
      twelve trials, most of them short; the best settings end up in tuning/TIME/best.json
  python -m sqznet.tune --data=data/mine --tuner=random --trials=20 --space=rates --out=tuning/mine
      of learning rate and weight decay only; the same command goes on where it was stopped
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=chief --chief=10.0.0.1:8123
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=worker --chief=10.0.0.1:8123
      one chief and any number of workers, on one machine or many, each with the same flags otherwise
  python -m sqznet.train --data=data/mine --recipe=tuning/mine/best.json
      trains with what was found

Spaces: rates, augmentation, default (both, and schedule, optimizer, batch, activation, bypass), or a JSON file such as
{"learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"}, "activation": ["relu", "elu"]}.

Writes trials.csv, a parallel-coordinates plot and best.json, and says whether the best settings, trained in full, are
better than the recipe was (--no-compare leaves that out). Every trial is a run folder: python -m sqznet.runs
--runs=OUT/trials lists them. The best of many trials looks better on val than it is: keep a test split apart.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from pathlib import Path

from sqznet import cli, console, recipes
from sqznet.errors import InputError

TUNERS = ("random", "bayesian", "hyperband")
ROLES = ("chief", "worker")
IDENTITY = "search.json"


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.tune", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards, made by sqznet.data")
    parser.add_argument("--recipe", default="imagenette", help="what is searched around: a name or a .json file")
    parser.add_argument("--epochs", type=int, help="of a trial, of Hyperband's longest; default the recipe's")
    parser.add_argument("--tuner", choices=TUNERS, default="hyperband", help="how the next trial is chosen")
    parser.add_argument("--trials", type=int, default=12, help="how many, failed ones included")
    parser.add_argument("--space", default="default", help="rates, augmentation, default, or a .json file")
    parser.add_argument("--seed", type=int, default=0, help="decides the trials; each trains with the recipe's seed")
    parser.add_argument("--strategy", default="mirrored", help="of each trial: one or mirrored")
    parser.add_argument("--replicas", type=int, help="of each trial, as in sqznet.train")
    parser.add_argument("--role", choices=ROLES, help="of this process where several share a search")
    parser.add_argument("--chief", default="127.0.0.1:8123", help="with --role: the chief's host:port")
    parser.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="in the end, train the recipe as it was and the best settings in full, and say which is better",
    )
    parser.add_argument("--out", type=Path, help="folder of the search; default tuning/TIME")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    for name in ("trials", "epochs", "replicas"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name}={value} must be 1 or more")
    if args.role and args.out is None:
        raise InputError("--role needs --out, a folder that chief and workers share")
    if args.strategy not in ("one", "mirrored"):
        raise InputError(f"--strategy={args.strategy} must be one or mirrored")
    from sqznet import startup
    from sqznet.tuning import space

    recipe = recipes.load(args.recipe)
    if args.epochs:
        warmup = recipe.warmup_epochs * args.epochs / recipe.epochs
        recipe = recipe.replace(epochs=args.epochs, total_steps=None, warmup_epochs=warmup, train_sizes=())
    searched = space.load(args.space)
    if args.role:
        _join(args.role, args.chief)
    startup.load_tensorflow()
    from sqznet.data import manifest
    from sqznet.tuning import report, search

    manifest.load(args.data)  # raises where it is no set
    out = args.out or Path("tuning") / time.strftime("%Y%m%d-%H%M%S")
    report.claim(out, {"recipe": recipe.to_dict(), "space": searched, "tuner": args.tuner, "seed": args.seed})
    flags = [f"--data={args.data}", f"--strategy={args.strategy}"]
    if args.replicas:
        flags.append(f"--replicas={args.replicas}")
    oracle = search.make_oracle(args.tuner, searched, args.trials, recipe.epochs, args.seed)
    before = len(search.finished(out))
    if before:
        console.say(f"{before} trials of {out} are finished already")
    search.Search(oracle, recipe, out, flags).search()
    if args.role != "worker":
        report.conclude(out, recipe, list(searched), flags if args.compare else None)
    return 0


def _join(role: str, chief: str) -> None:
    """Tells KerasTuner, which reads these, who this process is."""
    host, _, port = chief.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--chief={chief} must be host:port, such as 127.0.0.1:8123")
    os.environ["KERASTUNER_ORACLE_IP"] = host
    os.environ["KERASTUNER_ORACLE_PORT"] = port
    os.environ["KERASTUNER_TUNER_ID"] = "chief" if role == "chief" else f"{socket.gethostname()}-{os.getpid()}"


if __name__ == "__main__":
    cli.run(main)
