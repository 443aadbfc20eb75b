"""Search the recipe settings that give the highest accuracy on your data.

  python -m sqznet.tune --data=data/mine --recipe=imagenette --epochs=12 --tuner=hyperband --trials=12
      twelve trials, most of them short; writes the best settings to tuning/TIME/best.json
  python -m sqznet.tune --data=data/mine --tuner=random --trials=20 --space=rates --out=tuning/mine
      searches learning rate and weight decay only; the same command continues a stopped search
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=chief --chief=10.0.0.1:8123
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=worker --chief=10.0.0.1:8123
      one chief and any number of workers, on one or several machines, all with the same other flags
  python -m sqznet.tune --data=data/mine --recipe=finetune --init_weights=squeezenet-v1.1 --out=tuning/mine
      every trial starts from published weights
  python -m sqznet.train --recipe=tuning/mine/best.json
      trains with the best settings, on the same data and from the same weights

Spaces: rates, augmentation, default (both, and schedule, optimizer, batch, activation, bypass), or a JSON file such as
{"learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"}, "activation": ["relu", "elu"]}.

The search writes trials.csv, a parallel-coordinates plot and best.json. Then it trains the recipe and the best settings
in full, and prints which is better. --no-compare skips these trainings. Every trial is a run folder. python -m
sqznet.runs --runs=OUT/trials lists the trials. The val accuracy of the best trial is too high, because it is the best
of many. Therefore keep a separate test split.

After Ctrl-C or SIGTERM, the current trial saves its state before the search ends. The same command continues the
search, also after a kill.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from sqznet import recipes
from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError, Stopped
from sqznet.tune import space

TUNERS = ("random", "bayesian", "hyperband")
ROLES = ("chief", "worker")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.tune", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards that sqznet.data has built")
    parser.add_argument("--recipe", default="imagenette", help="recipe to improve: a name or a .json file")
    parser.add_argument(
        "--epochs",
        type=cli.positive,
        help="epochs of a trial (with Hyperband: of the longest trials); default: as in the recipe",
    )
    parser.add_argument("--tuner", choices=TUNERS, default="hyperband", help="search algorithm")
    parser.add_argument("--trials", type=cli.positive, default=12, help="number of trials, including failed trials")
    parser.add_argument("--space", default="default", help="rates, augmentation, default, or a .json file")
    parser.add_argument(
        "--seed", type=cli.whole, default=0, help="seed of the search; each trial trains with the recipe's seed"
    )
    parser.add_argument("--init_weights", type=Path, help="weights that every trial starts from, as in sqznet.train")
    parser.add_argument(
        "--strategy", choices=("one", "mirrored"), default="mirrored", help="distribution strategy of each trial"
    )
    parser.add_argument("--replicas", type=cli.positive, help="replicas of each trial, as in sqznet.train")
    parser.add_argument("--role", choices=ROLES, help="role of this process if several processes share the search")
    parser.add_argument(
        "--chief", type=cli.address, default="127.0.0.1:8123", help="with --role: host:port of the chief"
    )
    parser.add_argument(
        "--compare",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="at the end, train the recipe and the best settings in full, and print which is better",
    )
    parser.add_argument("--out", type=Path, help="folder of the search; default: tuning/TIME")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.role and args.out is None:
        raise InputError("--role needs --out, a folder that chief and workers share")
    recipe = recipes.load(args.recipe)
    if args.epochs:
        warmup = recipe.warmup_epochs * args.epochs / recipe.epochs
        recipe = recipe.replace(epochs=args.epochs, total_steps=None, warmup_epochs=warmup, train_sizes=())
    searched = space.load(args.space, recipe)
    if args.init_weights:
        searched = space.without_network_fields(searched, args.space)
    elif recipe.freeze or "freeze" in searched:
        raise InputError(
            f"--{'recipe' if recipe.freeze else 'space'}={args.recipe if recipe.freeze else args.space} (freeze): this "
            "recipe needs trained weights: give --init_weights=squeezenet-v1.1, a run folder or a file"
        )
    if args.role:
        # KerasTuner reads the address of the chief from the environment.
        host, port = args.chief
        os.environ.update(KERASTUNER_ORACLE_IP=host, KERASTUNER_ORACLE_PORT=str(port))
    startup.load_tensorflow()
    from sqznet.tune import session

    out = args.out or Path("tuning") / time.strftime("%Y%m%d-%H%M%S")
    try:
        session.run(args, recipe, searched, out)
    except Stopped as stopped:
        console.say(f"stopped by {stopped}; the same command with --out={out} continues")
        return 128 + stopped.signal_number
    return 0


if __name__ == "__main__":
    cli.run(main)
