"""Search the settings of a recipe for the most accurate ones on your data.

  python -m sqznet.tune --data=data/mine --recipe=imagenette --epochs=12 --tuner=hyperband --trials=12
      twelve trials, most of them short; the best settings end up in tuning/TIME/best.json
  python -m sqznet.tune --data=data/mine --tuner=random --trials=20 --space=rates --out=tuning/mine
      of learning rate and weight decay only; the same command goes on where it was stopped
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=chief --chief=10.0.0.1:8123
  python -m sqznet.tune --data=data/mine --out=/shared/t --role=worker --chief=10.0.0.1:8123
      one chief and any number of workers, on one machine or many, each with the same flags otherwise
  python -m sqznet.tune --data=data/mine --recipe=finetune --init_weights=squeezenet-v1.1 --out=tuning/mine
      every trial starts from published weights
  python -m sqznet.train --recipe=tuning/mine/best.json
      trains with what was found, on the same data and from the same weights

Spaces: rates, augmentation, default (both, and schedule, optimizer, batch, activation, bypass), or a JSON file such as
{"learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"}, "activation": ["relu", "elu"]}.

Writes trials.csv, a parallel-coordinates plot and best.json, and says whether the best settings, trained in full, are
better than the recipe was (--no-compare leaves that out). Every trial is a run folder: python -m sqznet.runs
--runs=OUT/trials lists them. The best of many trials looks better on val than it is: keep a test split apart.

Ctrl-C or SIGTERM lets the trial under way save its state first. The same command goes on, also after a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sqznet import recipes
from sqznet.core import cli, console, locks
from sqznet.core.errors import InputError

TUNERS = ("random", "bayesian", "hyperband")
ROLES = ("chief", "worker")
IDENTITY = "search.json"


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.tune", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards, made by sqznet.data")
    parser.add_argument("--recipe", default="imagenette", help="what is searched around: a name or a .json file")
    parser.add_argument("--epochs", type=cli.positive, help="of a trial, of Hyperband's longest; default the recipe's")
    parser.add_argument("--tuner", choices=TUNERS, default="hyperband", help="how the next trial is chosen")
    parser.add_argument("--trials", type=cli.positive, default=12, help="how many, failed ones included")
    parser.add_argument("--space", default="default", help="rates, augmentation, default, or a .json file")
    parser.add_argument(
        "--seed", type=cli.whole, default=0, help="decides the trials; each trains with the recipe's seed"
    )
    parser.add_argument("--init_weights", type=Path, help="every trial starts from this network, as in sqznet.train")
    parser.add_argument("--strategy", choices=("one", "mirrored"), default="mirrored", help="of each trial")
    parser.add_argument("--replicas", type=cli.positive, help="of each trial, as in sqznet.train")
    parser.add_argument("--role", choices=ROLES, help="of this process where several share a search")
    parser.add_argument(
        "--chief", type=cli.address, default="127.0.0.1:8123", help="with --role: the chief's host:port"
    )
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
    if args.role and args.out is None:
        raise InputError("--role needs --out, a folder that chief and workers share")
    from sqznet.core import startup
    from sqznet.tune import space

    recipe = recipes.load(args.recipe)
    if args.epochs:
        warmup = recipe.warmup_epochs * args.epochs / recipe.epochs
        recipe = recipe.replace(epochs=args.epochs, total_steps=None, warmup_epochs=warmup, train_sizes=())
    searched = space.load(args.space, recipe)
    if args.init_weights:
        searched = space.beside_weights(searched, args.space)
    elif recipe.freeze or "freeze" in searched:
        raise InputError(
            f"--{'recipe' if recipe.freeze else 'space'}={args.recipe if recipe.freeze else args.space} (freeze): this "
            "recipe needs trained weights: give --init_weights=squeezenet-v1.1, a run folder or a file"
        )
    if args.role:
        # KerasTuner reads where the chief is from these.
        host, port = args.chief
        os.environ.update(KERASTUNER_ORACLE_IP=host, KERASTUNER_ORACLE_PORT=str(port))
    startup.load_tensorflow()
    from sqznet.data import manifest
    from sqznet.recipes import fitting
    from sqznet.tune import oracles, results, search

    shards = manifest.load(args.data)  # raises where it is no set
    records = shards.records("train")
    if args.recipe in recipes.RECIPES:  # a file is taken as it is, here as in a training
        recipe = fitting.fit(recipe, records, args.replicas or 1, ())
    if args.space in space.SPACES:
        searched = fitting.searchable(searched, records)
    origin = None
    if args.init_weights:
        from sqznet.train import finetune

        origin = finetune.load(args.init_weights)  # raises where they cannot be read
    out = args.out or Path("tuning") / time.strftime("%Y%m%d-%H%M%S")
    oracle = oracles.make(args.tuner, searched, args.trials, recipe.epochs, args.seed)
    flags = [f"--data={args.data}", f"--strategy={args.strategy}"]
    flags += [f"--{name}={getattr(args, name)}" for name in ("replicas", "init_weights") if getattr(args, name)]
    identity = {"recipe": recipe.to_dict(), "space": searched, "tuner": args.tuner, "seed": args.seed}
    if args.init_weights:
        identity["init_weights"] = str(args.init_weights)
    try:
        with _claimed(out, args.role):
            results.claim(out, identity)
            before = len(search.finished(out))
            if before:
                console.say(f"{before} trials of {out} are finished already")
            search.Search(oracle, recipe, out, flags).search()
            if args.role != "worker":
                results.conclude(
                    out,
                    recipe,
                    list(searched),
                    flags if args.compare else None,
                    data=shards,
                    origin=origin,
                )
    except search.Stopped as stopped:
        console.say(f"stopped by {stopped}; the same command with --out={out} goes on")
        return 128 + stopped.signal_number
    return 0


@contextlib.contextmanager
def _claimed(out: Path, role: str | None) -> Iterator[None]:
    """Keeps a second search out of a folder, or a second chief. Workers are numbered, by the first free lock.

    A worker that is started again gets the number of one that was killed, and the trial that this had begun.

    Raises:
        InputError: another process searches there.
    """
    with contextlib.ExitStack() as held:
        if role == "worker":
            for number in itertools.count():
                with contextlib.suppress(locks.Held):
                    held.enter_context(locks.locked(out / f"worker-{number}.lock", f"searches in {out}", wait=False))
                    os.environ["KERASTUNER_TUNER_ID"] = f"worker-{number}"
                    break
        else:
            remedy = "wait for it, or name another --out"
            held.enter_context(locks.locked(out / "lock", f"searches in {out}", wait=False, remedy=remedy))
            if role == "chief":
                os.environ["KERASTUNER_TUNER_ID"] = "chief"
        yield


if __name__ == "__main__":
    cli.run(main)
