"""Determines the settings of a fresh or resumed training run from flags or a Python call. Imports no TensorFlow."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import console, remote, startup, typed
from sqznet.core.errors import InputError
from sqznet.data import manifest
from sqznet.recipes import NETWORK_FIELDS, Recipe, fitting
from sqznet.runs import checkpoint, run_folder

SHARDS = Path("data/shards")
DEMO = Path("data/demo")
FINETUNED = "squeezenet-v1.1"  # the published weights that the recipe `finetune` starts from by default


@dataclass(frozen=True)
class Request:
    """Contains the values of the flags of the same names. None means that sqznet chooses the value."""

    data: Path | None = None
    recipe: str | Recipe | None = None
    run_dir: Path | None = None
    init_weights: Path | None = None
    teacher: Path | None = None
    resume: bool = False
    find_lr: bool = False


@dataclass(frozen=True)
class Settings:
    """The data, the recipe and the folder of a run, and the models that it uses."""

    data: Path
    recipe: Recipe
    run_dir: Path
    init_weights: Path | None  # of a fresh run
    teacher: Path | None
    chosen: Set[str]  # fields of the recipe that the user has set: they are not fitted to the data or the weights
    resume: bool = False


def from_flags(args: argparse.Namespace) -> Settings:
    """Returns the settings of a fresh run, or with --resume the settings of an earlier run.

    Raises:
        InputError: flags contradict each other, the recipe file, or the run that is resumed.
    """
    names = [field.name for field in dataclasses.fields(Recipe) if field.name != "name"]
    return settle(args, {name: getattr(args, name) for name in names if hasattr(args, name)})


def settle(args: Request | argparse.Namespace, overrides: dict[str, Any]) -> Settings:
    """Returns the settings of a fresh run, or of the run to resume. `overrides` are fields of the recipe.

    Raises:
        InputError: as `from_flags`.
    """
    # Clusters start a job again with the same command, also a job that has not written its first checkpoint yet.
    has_begun = args.run_dir is None or (
        (args.run_dir / run_folder.CONFIG).is_file() and bool(checkpoint.steps(args.run_dir))
    )
    return resumed(args, overrides) if args.resume and has_begun else fresh(args, overrides)


def fresh(args: Request | argparse.Namespace, overrides: dict[str, Any]) -> Settings:
    """Returns the settings of a fresh run. A run's config.json as --recipe also gives the data, weights and teacher."""
    recipe, content = _read_recipe(args.recipe) if args.recipe else (None, {})
    given = {"data": args.data, "init_weights": args.init_weights, "teacher": args.teacher}
    if "recipe" in content and "data" in content:  # a run's config.json
        stored = _stored(content, str(args.recipe), with_teacher=not args.find_lr)
        taken = {name: value for name, value in stored.items() if value is not None and given[name] is None}
        if taken:
            console.say(f"from {args.recipe}: {' '.join(f'--{name}={value}' for name, value in taken.items())}")
        given |= taken
    data = given["data"] or (SHARDS if (SHARDS / manifest.FILE).is_file() else DEMO)
    if given["data"] is None:
        console.say(
            f"no --data: using {data}"
            + (f" (no shards in {SHARDS}; the built-in demo set takes their place)" if data == DEMO else "")
        )
    recipe = override(recipe or recipes.load(_default_recipe(data, given["init_weights"] is not None)), overrides)
    if recipe.name == recipes.FINETUNE.name and given["init_weights"] is None:
        given["init_weights"] = Path(FINETUNED)
        console.say(f"no --init_weights: fine-tuning {FINETUNED}, which was trained on ImageNet")
    unused = [name for name in overrides if name.startswith("distill_")]
    if unused and given["teacher"] is None:
        raise InputError(f"--{unused[0]} needs a teacher: name one with --teacher")
    return Settings(
        data,
        recipe,
        args.run_dir or run_folder.new(recipe.name),
        given["init_weights"],
        given["teacher"],
        _chosen(overrides, content, given["init_weights"]),
    )


def _read_recipe(name: str | Recipe) -> tuple[Recipe, dict[str, Any]]:
    """Reads a recipe by name or from a file. Also returns the content of the file, {} for a name."""
    if isinstance(name, Recipe):
        return name, name.to_dict()
    if not name.endswith(".json"):
        return recipes.load(name), {}
    content = typed.read_json(Path(name))
    fields = content.get("recipe", content)
    typed.require({"recipe": fields}, {"recipe": dict}, name)
    return recipes.from_dict(fields, name), content


def _stored(content: dict[str, Any], where: str, with_teacher: bool) -> dict[str, Path | None]:
    """Returns the data, the weights and the teacher that a run's config.json names."""
    content = {"init_weights": None, "teacher": None, **content}
    typed.require(content, {"data": str, "init_weights": dict | None, "teacher": str | None}, where)
    origin = content["init_weights"]
    if origin:
        typed.require(origin, {"path": str}, f"{where}: init_weights")
    return {
        "data": remote.folder(content["data"]),
        "init_weights": Path(origin["path"]) if origin else None,
        "teacher": Path(content["teacher"]) if content["teacher"] and with_teacher else None,
    }


def _default_recipe(data: Path, has_weights: bool) -> str:
    if data == DEMO:
        return recipes.DEMO.name
    if isinstance(data, remote.Remote):
        startup.load_tensorflow()  # needed to read it
    records = manifest.load(data, whole=False).records("train")
    name = fitting.default_recipe(records, has_weights)
    console.say(f"no recipe is given: using {name}, for {console.counted(records, 'training record')}")
    if name == recipes.IMAGENETTE.name:
        console.say(
            f"note: {name} starts from random weights. The recipe {recipes.FINETUNE.name} starts from published "
            "weights: it gives a better model in less time, if the weights can be downloaded"
        )
    return name


def _chosen(overrides: dict[str, Any], content: dict[str, Any], init_weights: Path | None) -> set[str]:
    """Returns the fields that the user has set, by flags or in a recipe file.

    From a recipe file, this function takes only fields that would otherwise be fitted to the data or to the weights.
    From a run's config.json, it takes the fields of the network only if the run started from the same weights.
    """
    origin = content.get("init_weights")
    same = isinstance(origin, dict) and str(init_weights) == origin.get("path")
    fitted = {*fitting.FIELDS, *(NETWORK_FIELDS if same else ())}
    return set(overrides) | fitted.intersection(content.get("recipe", content))


def resumed(args: Request | argparse.Namespace, overrides: dict[str, Any]) -> Settings:
    """Returns the settings of the run that --resume continues.

    Raises:
        InputError: there is no such run, or a flag contradicts it.
    """
    run_dir = args.run_dir or run_folder.newest(f"{checkpoint.FOLDER}/*.npz")
    config = run_folder.load_config(run_dir)
    recipe = recipes.from_dict(config["recipe"], where=str(run_dir / run_folder.CONFIG))
    if args.recipe:  # the command of the start with --resume added is accepted
        asked, content = _read_recipe(args.recipe)
        # If the user has not chosen these fields, the data has decided the former, and the weights the latter.
        fitted = {*fitting.FIELDS, *(NETWORK_FIELDS if config["init_weights"] else ())}
        free = fitted - _chosen(overrides, content, args.init_weights)
        overrides = {name: value for name, value in override(asked, overrides).to_dict().items() if name not in free}
    origin = config["init_weights"]["path"] if config["init_weights"] else None
    for name, stored in (("init_weights", origin), ("teacher", config["teacher"])):
        given = getattr(args, name)
        if given is not None and str(given) != stored:
            raise InputError(f"{run_dir} was trained with --{name}={stored}, not {given}; leave the flag out")
    for name, value in overrides.items():
        # `auto` has been replaced at the start of the run.
        if getattr(recipe, name) != value and (name, value) != ("precision", "auto"):
            raise InputError(
                f"{run_dir} was trained with --{name}={getattr(recipe, name)}, not {value}: a resumed run keeps its "
                "recipe; leave the flag out, or start another run"
            )
    teacher = Path(config["teacher"]) if config["teacher"] else None
    return Settings(args.data or remote.folder(config["data"]), recipe, run_dir, None, teacher, frozenset(), True)


def override(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """Returns the recipe with fields replaced. Adapts the fields that depend on the replaced fields."""
    changes = dict(overrides)
    if "epochs" in changes:
        changes.setdefault("total_steps", None)  # else total_steps would decide
    if "image_size" in changes:
        # The crop keeps its share of the photograph. The smaller training sizes were chosen for another size.
        changes.setdefault("resize_to", recipe.preprocessing.at(changes["image_size"]).resize_to)
        changes.setdefault("train_sizes", ())
    made = recipe.replace(**changes)
    if "epochs" in overrides and "warmup_epochs" not in overrides and made.warmup_epochs >= made.epochs:
        # Otherwise the learning rate would never reach its value.
        made = made.replace(warmup_epochs=recipe.warmup_epochs * made.epochs / recipe.epochs)
    return made
