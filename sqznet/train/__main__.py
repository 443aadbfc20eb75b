"""Train a SqueezeNet on shards.

  python -m sqznet.train --strategy=mirrored
      without --data: on data/shards if that is built, else on the built-in demo set (about 3 minutes on two cores)
  python -m sqznet.train --data=data/imagenet --strategy=mirrored
      the article's run: v1.0 with ELU, SGD 1e-2 divided by ten at epochs 50, 65 and 75 of 80
  python -m sqznet.train --data=data/imagenette --recipe=imagenette
      ten classes from random weights in under half an hour on two cores
  python -m sqznet.train --data=data/mine --recipe=imagenette --epochs=60 --learning_rate=0.05
      any field of the recipe can be overridden
  python -m sqznet.train --data=data/mine --recipe=finetune --init_weights=squeezenet-v1.1
      your own photographs in minutes, from published ImageNet weights
  python -m sqznet.train --recipe=runs/NAME/config.json
      repeat a run with its data and weights, from the beginning; flags override the file
  python -m sqznet.train --data=data/mine --recipe=imagenette --teacher=runs/LARGER
      knowledge distillation: learn from a larger network as well as from the labels
  python -m sqznet.train --data=data/mine --recipe=imagenette --find_lr
      no training: a learning rate range test, which writes a plot and suggests a rate
  python -m sqznet.train --strategy=multiworker --workers=a:9000,b:9000 --worker_index=0 --run_dir=/shared/run
      on two machines; the same on the other, with 1 (or TF_CONFIG, or Slurm; see deploy/)
  python -m sqznet.train --resume
      continue the newest run; --run_dir=runs/NAME names another

Writes a run folder (config.json, metrics.csv, best.keras, checkpoints, curve.png, TensorBoard events, logs). Ctrl-C or
SIGTERM saves the state first. After a kill, --resume continues from the last checkpoint. On processors the result is
the same as without the kill. On GPUs this needs --deterministic.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import cli, console, remote, startup
from sqznet.core.errors import InputError, Stopped
from sqznet.recipes import Recipe

TYPES = {
    "str": str,
    "int": cli.integer,
    "float": cli.finite,
    "int | None": cli.integer,
    "str | None": str,
    "tuple[int, ...]": recipes.parse_milestones,
    "tuple[tuple[int, int], ...]": recipes.parse_train_sizes,
}


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.train", __doc__)
    parser.add_argument("--data", type=remote.folder, help="folder of shards, made by sqznet.data; also gs://...")
    parser.add_argument(
        "--recipe",
        type=recipes.path_of,
        help=f"{', '.join(recipes.RECIPES)}, a .json file of a recipe, or a run folder; default: finetune with "
        "--init_weights, demo on the demo set, else article for 100,000 or more training photographs, or imagenette",
    )
    parser.add_argument("--strategy", default="mirrored", help="one, mirrored or multiworker")
    parser.add_argument(
        "--replicas", type=cli.positive, help="number of devices of --strategy=mirrored; default: all GPUs, or one CPU"
    )
    parser.add_argument(
        "--workers", help="machines of --strategy=multiworker, as host:port,...; or TF_CONFIG, or Slurm"
    )
    parser.add_argument("--worker_index", type=cli.whole, help="number of this machine among --workers; 0 is the chief")
    parser.add_argument(
        "--init_weights",
        type=Path,
        help="initial weights: a run folder, a .keras file, or published weights (a file, or a name such as "
        "squeezenet-v1.1)",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        help="model to learn from, in addition to the labels: any model that sqznet.evaluate takes",
    )
    parser.add_argument("--data_service", help="grpc://host:port of a dispatcher of sqznet.data.service, for decoding")
    parser.add_argument("--run_dir", type=Path, help="folder of the run; default: runs/TIME-RECIPE")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue --run_dir, or the newest run, from its last checkpoint; if --run_dir has no run, start one",
    )
    parser.add_argument(
        "--keep", type=cli.positive, default=2, help="number of checkpoints to keep, in addition to the best model"
    )
    parser.add_argument(
        "--save_minutes", type=cli.non_negative, default=5.0, help="minutes between checkpoints in an epoch"
    )
    parser.add_argument(
        "--max_bad_records",
        type=cli.whole,
        default=0,
        help="largest number of corrupt training records to leave out (each is named) before the run stops",
    )
    parser.add_argument("--find_lr", action="store_true", help="run a learning rate range test instead of training")
    parser.add_argument(
        "--profile", type=cli.whole, default=0, help="training steps to record in a TensorBoard profile"
    )
    parser.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give bit-identical results each time; slower on GPUs; default: on without GPUs, off with GPUs",
    )
    fields = parser.add_argument_group("fields of the recipe", "each overrides the recipe's own value")
    for setting in dataclasses.fields(Recipe):
        if setting.name == "name":
            continue
        options: dict[str, Any] = {"default": argparse.SUPPRESS}
        options["help"] = f"{setting.metadata['help'].replace('%', '%%')} (article's: {_typed(setting.default)})"
        if setting.type == "bool":
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = TYPES[str(setting.type)]
            options["metavar"] = "|".join(setting.metadata["choices"] or ()) or None
        fields.add_argument(f"--{setting.name}", **options)
    return parser


def _typed(value: Any) -> str:
    """Formats a field's value as its flag takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ((), None) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.strategy != "multiworker" and (args.workers or args.worker_index is not None):
        raise InputError(f"--workers and --worker_index go with --strategy=multiworker, not {args.strategy}")
    if args.find_lr and (args.resume or args.teacher or args.strategy == "multiworker"):
        raise InputError(
            "--find_lr is for a fresh network on this machine: leave out --resume, --teacher and --strategy=multiworker"
        )
    from sqznet.data import service
    from sqznet.train import settings

    job = settings.from_flags(args)
    startup.load_tensorflow()
    from sqznet.train import cluster, find_rate, start

    machines = cluster.find(args.workers, args.worker_index) if args.strategy == "multiworker" else None
    if args.data_service:
        service.await_dispatcher(args.data_service, "--data_service")
    options = ("deterministic", "keep", "save_minutes", "profile", "max_bad_records", "data_service")
    given = sys.argv[1:] if argv is None else argv
    if args.find_lr:
        rate = find_rate.find_in(
            job.run_dir,
            start.load_data(job),
            job.recipe,
            strategy_name=args.strategy,
            replicas=args.replicas,
            init_weights=job.init_weights,
            chosen=job.chosen,
        )
        console.next_step("sqznet.train", *find_rate.flags_with(given, rate))
        return 0
    try:
        run = start.train_job(
            job,
            strategy_name=args.strategy,
            machines=machines,
            replicas=args.replicas,
            command=["python", "-m", "sqznet.train", *given],
            **{name: getattr(args, name) for name in options},
        )
    except Stopped as stopped:
        again = console.command("sqznet.train", "--resume", f"--run_dir={job.run_dir}")
        console.say(f"stopped by {stopped}; go on with: {again}")
        return 128 + stopped.signal_number
    if run.is_chief:
        console.next_step("sqznet.evaluate", f"--model={job.run_dir}")
    return 0


if __name__ == "__main__":
    cli.run(main)
