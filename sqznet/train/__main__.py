"""Train a SqueezeNet on shards.

  python -m sqznet.train --strategy=mirrored
      without --data: on data/shards if that is built, else on the built-in demo set (about 3 minutes on two cores)
  python -m sqznet.train --data=data/imagenet --strategy=mirrored
      the article's run: v1.0 with ELU, SGD 1e-2 divided by ten at epochs 50, 65 and 75 of 80
  python -m sqznet.train --data=data/imagenette --recipe=imagenette
      ten classes from scratch in under half an hour on two cores
  python -m sqznet.train --data=data/mine --recipe=imagenette --epochs=60 --learning_rate=0.05
      any field of the recipe can be overridden
  python -m sqznet.train --data=data/mine --recipe=finetune --init_weights=squeezenet-v1.1
      your own photographs in minutes, from published ImageNet weights
  python -m sqznet.train --recipe=runs/NAME/config.json
      a run again, with its data and weights, from the beginning; flags that are given come first
  python -m sqznet.train --data=data/mine --recipe=imagenette --teacher=runs/LARGER
      learn from a larger network, too
  python -m sqznet.train --data=data/mine --recipe=imagenette --find_lr
      no training: which learning rate the network and the data bear, as a plot and a suggestion
  python -m sqznet.train --strategy=multiworker --workers=a:9000,b:9000 --worker_index=0 --run_dir=/shared/run
      on two machines; the same on the other, with 1 (or TF_CONFIG, or Slurm; see deploy/)
  python -m sqznet.train --resume
      go on with the newest run; --run_dir=runs/NAME names another

Writes a run folder (config.json, metrics.csv, best.keras, checkpoints, curve.png, TensorBoard events, logs).
Ctrl-C or SIGTERM saves the state first; after a kill the run goes on from its last checkpoint, with the same result.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import recipes
from sqznet.core import cli, console, remote, startup, typed
from sqznet.core.errors import InputError
from sqznet.recipes import Recipe, fitting

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest

SHARDS = Path("data/shards")
DEMO = Path("data/demo")
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
        help=f"{', '.join(recipes.RECIPES)}, a .json file of one, or a run's folder; default finetune with "
        "--init_weights, else article from 100,000 training photographs on, imagenette for fewer, demo on the demo set",
    )
    parser.add_argument("--strategy", default="mirrored", help="one, mirrored or multiworker")
    parser.add_argument(
        "--replicas", type=cli.positive, help="devices of --strategy=mirrored; default all GPUs, or one CPU"
    )
    parser.add_argument(
        "--workers", help="machines of --strategy=multiworker, as host:port,...; or TF_CONFIG, or Slurm"
    )
    parser.add_argument("--worker_index", type=cli.whole, help="number of this machine among --workers; 0 is the chief")
    parser.add_argument(
        "--init_weights",
        type=Path,
        help="start from this network: a run folder, a .keras file, or published weights (a file, or a name such as "
        "squeezenet-v1.1)",
    )
    parser.add_argument("--teacher", type=Path, help="learn from this model, too: anything that sqznet.evaluate takes")
    parser.add_argument("--data_service", help="grpc://host:port of a dispatcher (sqznet.data.service) that decodes")
    parser.add_argument("--run_dir", type=Path, help="folder of the run; default runs/TIME-RECIPE")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where --run_dir, or the newest run, stopped; if --run_dir holds no run yet, start it",
    )
    parser.add_argument("--keep", type=cli.positive, default=2, help="checkpoints that stay, besides the best model")
    parser.add_argument(
        "--save_minutes", type=cli.non_negative, default=5.0, help="time between checkpoints within an epoch"
    )
    parser.add_argument(
        "--max_bad_records",
        type=cli.whole,
        default=0,
        help="corrupt training records that may be left out, each one named, before the run stops",
    )
    parser.add_argument("--find_lr", action="store_true", help="look for a learning rate instead of training")
    parser.add_argument("--profile", type=cli.whole, default=0, help="write a TensorBoard profile of that many steps")
    parser.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the same bits each time, slower on GPUs; default: only without GPUs, where it costs nothing",
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
    """A field's value as its flag takes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ((), None) else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    args.recipe = recipes.path_of(args.recipe) if args.recipe else None
    overrides = {
        setting.name: getattr(args, setting.name)
        for setting in dataclasses.fields(Recipe)
        if setting.name != "name" and hasattr(args, setting.name)
    }
    if args.strategy != "multiworker" and (args.workers or args.worker_index is not None):
        raise InputError(f"--workers and --worker_index go with --strategy=multiworker, not {args.strategy}")
    if args.find_lr and (args.resume or args.teacher or args.strategy == "multiworker"):
        raise InputError(
            "--find_lr is for a fresh network on this machine: leave out --resume, --teacher and --strategy=multiworker"
        )
    # A job that is started again by the same command, as clusters do, may not have come as far as its first checkpoint.
    resume = args.resume and (args.run_dir is None or _has_begun(args.run_dir))
    data, recipe, run_dir, teacher = _resumed(args, overrides) if resume else _fresh(args, overrides)

    startup.load_tensorflow()
    from sqznet.data import manifest, service
    from sqznet.train import cluster, run, start

    machines = cluster.find(args.workers, args.worker_index) if args.strategy == "multiworker" else None

    if args.data_service:
        service.await_dispatcher(args.data_service, "--data_service")
    if data == DEMO and not (DEMO / manifest.FILE).is_file():
        _build_demo()
    if args.find_lr:
        suggested = _find_rate(manifest.load(data), recipe, args, run_dir, _chosen(args, overrides))
        console.next_step("sqznet.train", *_with_rate(sys.argv[1:] if argv is None else argv, suggested))
        return 0
    try:
        start.train(
            manifest.load(data, whole=not args.max_bad_records),
            recipe,
            strategy_name=args.strategy,
            replicas=args.replicas,
            machines=machines,
            run_dir=run_dir,
            resume=resume,
            init_weights=args.init_weights,
            chosen=_chosen(args, overrides),
            teacher=teacher,
            deterministic=args.deterministic,
            keep=args.keep,
            save_minutes=args.save_minutes,
            profile=args.profile,
            max_bad_records=args.max_bad_records,
            data_service=args.data_service,
        )
    except run.Stopped as stopped:
        again = console.command("sqznet.train", "--resume", f"--run_dir={run_dir}")
        console.say(f"stopped by {stopped}; go on with: {again}")
        return 128 + stopped.signal_number
    return 0


def _find_rate(data: Manifest, recipe: Recipe, args: argparse.Namespace, folder: Path, chosen: set[str]) -> float:
    from sqznet.runs import run_folder
    from sqznet.train import find_rate

    records = data.records("train")
    fits = fitting.fitted(recipe, records, args.replicas or 1, chosen)
    fitting.tell(recipe, fits, records)
    recipe = fits
    with run_folder.claimed(folder):
        suggested = find_rate.find(
            data,
            recipe,
            strategy_name=args.strategy,
            replicas=args.replicas,
            folder=folder,
            init_weights=args.init_weights,
            chosen=chosen,
        )
    console.result(f"suggested: --learning_rate={suggested:.2g} (recipe {recipe.name} has {recipe.learning_rate:g})")
    console.result(f"plot: {folder / find_rate.PLOT}; table: {folder / find_rate.TABLE}")
    return suggested


def _with_rate(given: list[str], rate: float) -> list[str]:
    """The flags of a search for a learning rate, for the training that follows it."""
    kept: list[str] = []
    flags = iter(given)
    for flag in flags:
        if flag == "--learning_rate":
            next(flags, None)  # its value
        elif flag != "--find_lr" and not flag.startswith("--learning_rate="):
            kept.append(flag)
    return [*kept, f"--learning_rate={rate:.2g}"]


def _fresh(args: argparse.Namespace, overrides: dict[str, Any]) -> tuple[Path, Recipe, Path, Path | None]:
    from sqznet.runs import run_folder

    _take_from_config(args)
    data = args.data or (SHARDS if (SHARDS / "manifest.json").is_file() else DEMO)
    if args.data is None:
        console.say(
            f"no --data: using {data}"
            + (f" (no shards in {SHARDS}; the built-in demo set takes their place)" if data == DEMO else "")
        )
    recipe = override(recipes.load(args.recipe or _default_recipe(args, data)), overrides)
    idle = [name for name in overrides if name.startswith("distill_")]
    if idle and args.teacher is None:
        raise InputError(f"--{idle[0]} says how to learn from a teacher: say from which, with --teacher")
    return data, recipe, args.run_dir or run_folder.new(recipe.name), args.teacher


def _take_from_config(args: argparse.Namespace) -> None:
    """Lets `--recipe=RUN/config.json` repeat the run: what else the file names is taken where no flag names another."""
    if not args.recipe or args.recipe in recipes.RECIPES or not args.recipe.endswith(".json"):
        return
    content = typed.read_json(Path(args.recipe))
    if "recipe" not in content or "data" not in content:  # not of a run
        return
    content = {"init_weights": None, "teacher": None, **content}
    typed.require(content, {"data": str, "init_weights": dict | None, "teacher": str | None}, args.recipe)
    origin = content["init_weights"]
    if origin:
        typed.require(origin, {"path": str}, f"{args.recipe}: init_weights")
    found = {
        "data": remote.folder(content["data"]),
        "init_weights": Path(origin["path"]) if origin else None,
        "teacher": Path(content["teacher"]) if content["teacher"] and not args.find_lr else None,
    }
    taken = {name: value for name, value in found.items() if value is not None and getattr(args, name) is None}
    for name, value in taken.items():
        setattr(args, name, value)
    if taken:
        console.say(f"from {args.recipe}: {' '.join(f'--{name}={value}' for name, value in taken.items())}")


def _default_recipe(args: argparse.Namespace, data: Path) -> str:
    from sqznet.data import manifest

    if data == DEMO:
        return recipes.DEMO.name
    if isinstance(data, remote.Remote):
        startup.load_tensorflow()  # which reads it
    records = manifest.load(data, whole=False).records("train")
    name = fitting.default_recipe(records, args.init_weights is not None)
    console.say(f"no --recipe: using {name}, for {console.counted(records, 'training record')}")
    if name == recipes.IMAGENETTE.name:
        console.say(
            "note: it trains from scratch. Published weights, where they can be downloaded, give a better model in "
            "less time: --recipe=finetune --init_weights=squeezenet-v1.1"
        )
    return name


def _chosen(args: argparse.Namespace, overrides: dict[str, Any]) -> set[str]:
    """The fields that are decided: by flags, and by a file of those that follow the set or the weights otherwise."""
    if not args.recipe or args.recipe in recipes.RECIPES:
        return set(overrides)
    content = typed.read_json(Path(args.recipe))
    origin = content.get("init_weights")  # of a run's config, whose network went with these weights
    same = isinstance(origin, dict) and str(args.init_weights) == origin.get("path")
    settled = {*fitting.FIELDS, *(recipes.NETWORK_FIELDS if same else ())}
    return set(overrides) | settled.intersection(content.get("recipe", content))


def _has_begun(run_dir: Path) -> bool:
    from sqznet.runs import checkpoint, run_folder

    return (run_dir / run_folder.CONFIG).is_file() and bool(checkpoint.steps(run_dir))


def _resumed(args: argparse.Namespace, overrides: dict[str, Any]) -> tuple[Path, Recipe, Path, Path | None]:
    from sqznet.runs import checkpoint, run_folder

    run_dir = args.run_dir or run_folder.newest(f"{checkpoint.FOLDER}/*.npz")
    config = run_folder.load_config(run_dir)
    recipe = recipes.from_dict(config["recipe"], where=str(run_dir / run_folder.CONFIG))
    if args.recipe:  # the same command with --resume added must do
        recipe_asked = override(recipes.load(args.recipe), overrides)
        chosen = _chosen(args, overrides)
        # The set decided the first of these fields, and weights the others.
        followed = {*fitting.FIELDS, *(recipes.NETWORK_FIELDS if config["init_weights"] else ())} - chosen
        overrides = {name: value for name, value in recipe_asked.to_dict().items() if name not in followed}
    origin = config["init_weights"]["path"] if config["init_weights"] else None
    for name, given, stored in (
        ("init_weights", args.init_weights, origin),
        ("teacher", args.teacher, config["teacher"]),
    ):
        if given is not None and str(given) != stored:
            raise InputError(f"{run_dir} was trained with --{name}={stored}, not {given}; leave the flag out")
    for name, value in overrides.items():
        # The run has chosen its precision already.
        if getattr(recipe, name) != value and (name, value) != ("precision", "auto"):
            raise InputError(
                f"{run_dir} was trained with --{name}={getattr(recipe, name)}, not {value}: a resumed run keeps its "
                "recipe; leave the flag out, or start another run"
            )
    return (
        args.data or remote.folder(config["data"]),
        recipe,
        run_dir,
        Path(config["teacher"]) if config["teacher"] else None,
    )


def override(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe with fields replaced; other fields that only make sense with the replaced ones follow."""
    changes = dict(overrides)
    if "epochs" in changes:
        changes.setdefault("total_steps", None)  # the user counts in epochs
    if "image_size" in changes:
        # The crop keeps its share of the photograph, and a plan of smaller sizes made for another size is dropped.
        changes.setdefault("resize_to", recipe.preprocessing.at(changes["image_size"]).resize_to)
        changes.setdefault("train_sizes", ())
    return recipe.replace(**changes)


def _build_demo() -> None:
    from sqznet.data import __main__ as data_command

    data_command.make(["--source=synthetic", f"--out={DEMO}"])


if __name__ == "__main__":
    cli.run(main)
