"""What a search may change: fields of the recipe, each with the values that it may take. Declared in JSON, not in code.

  {"learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"},
   "label_smoothing": {"min": 0, "max": 0.2},
   "global_batch_size": [32, 64, 128],
   "train_sizes": ["", "0:64,14:96"]}

A list is a choice; the ends of a range belong to it. Values are those of the flags of `sqznet.train`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from sqznet import recipes
from sqznet.core import typed
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import check_choice
from sqznet.recipes import Recipe

if TYPE_CHECKING:
    import keras_tuner

Space = dict[str, Any]  # field to a list of choices or a range

SPACES: dict[str, Space] = {
    "rates": {
        "learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"},
        "weight_decay": {"min": 1e-5, "max": 1e-3, "scale": "log"},
    },
    "augmentation": {
        "min_crop_area": {"min": 0.08, "max": 0.8},
        "label_smoothing": {"min": 0.0, "max": 0.2},
        "dropout": {"min": 0.0, "max": 0.6},
        "mixup": [0.0, 0.1, 0.2, 0.4],
        "cutmix": [0.0, 1.0],
        "jitter": {"min": 0.0, "max": 0.4},
        "erasing": [0.0, 0.25],
    },
}
SPACES["default"] = {
    **SPACES["rates"],
    **SPACES["augmentation"],
    "schedule": ["cosine", "linear"],
    "optimizer": ["sgd", "nesterov"],
    "global_batch_size": [32, 64, 128],
    "activation": ["relu", "elu"],
    "bypass": ["none", "simple", "complex"],
}
_WHOLE = ("int", "int | None")
_PARSED: dict[str, Callable[[str], Any]] = {
    "tuple[int, ...]": recipes.parse_milestones,
    "tuple[tuple[int, int], ...]": recipes.parse_train_sizes,
}
_KINDS = get_type_hints(Recipe)
_TYPES = {setting.name: str(setting.type) for setting in dataclasses.fields(Recipe) if setting.name != "name"}


def load(name: str, recipe: Recipe = recipes.ARTICLE) -> Space:
    """The space of that name, or the one in a JSON file.

    Args:
        recipe: what is searched around, which each value must go with.

    Raises:
        InputError: no such name or file, or something in it that is no field, choice or range.
    """
    if name in SPACES:
        return SPACES[name]
    path = Path(name)
    if path.suffix != ".json":
        raise InputError(f"no space {name!r}; there are {', '.join(SPACES)}, or give the path of a .json file")
    space = typed.read_json(path)
    if not space:
        raise InputError(f"{path} must be a JSON object of one field or more, such as {json.dumps(SPACES['rates'])}")
    for field, values in space.items():
        _check(field, values, where=str(path))
    for field, values in space.items():
        for value in _ends(values):
            _check_in(recipe, field, value, space, where=str(path))
    return space


def _ends(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values["min"], values["max"]]


def _check_in(recipe: Recipe, field: str, value: Any, space: Space, where: str) -> None:
    """Refuses a value that makes no recipe, neither by itself nor with values of the other fields that are searched."""
    try:
        apply(recipe, {field: value})
    except InputError as error:
        for place in (0, -1):  # fields such as sparsity and sparse_epochs go together only
            with contextlib.suppress(InputError):
                apply(recipe, {**{name: _ends(values)[place] for name, values in space.items()}, field: value})
                return
        raise InputError(f"{where}: {error}") from None


def beside_weights(space: Space, name: str) -> Space:
    """The space without the fields that --init_weights decides, for a search from such weights.

    Raises:
        InputError: the user has asked for one of them.
    """
    decided = [field for field in space if field in recipes.NETWORK_FIELDS]
    if decided and name not in SPACES:
        raise InputError(
            f"{name}: {', '.join(decided)} cannot be searched with --init_weights, whose network has its own"
        )
    return {field: values for field, values in space.items() if field not in decided}


def _check(field: str, values: Any, where: str) -> None:
    if field not in _TYPES:
        close = difflib.get_close_matches(field, _TYPES, n=1)
        raise InputError(f"{where}: a recipe has no field {field}" + (f"; is {close[0]} meant?" if close else ""))
    if isinstance(values, list):
        if not values:
            raise InputError(f"{where}: {field} must have one choice or more")
        for value in values:
            _check_value(field, value, where)
        return
    numeric = _TYPES[field] in ("float", *_WHOLE)
    if not numeric or not isinstance(values, dict) or not {"min", "max"} <= set(values) <= {"min", "max", "scale"}:
        raise InputError(
            f"{where}: {field} is {json.dumps(values)}; expected a list of choices"
            + (', or {"min": a, "max": b} with "scale": "log" if wanted' if numeric else "")
        )
    typed.require(values, dict.fromkeys(("min", "max"), _KINDS[field]), f"{where}: {field}")
    low, high, scale = values["min"], values["max"], values.get("scale", "linear")
    if not low < high:
        raise InputError(f"{where}: {field} runs from {low!r} to {high!r}; expected two numbers, the lower one first")
    if scale not in ("linear", "log") or (scale == "log" and low <= 0):
        raise InputError(f"{where}: {field} has scale {scale!r}; expected linear, or log with min above 0")


def _check_value(field: str, value: Any, where: str) -> None:
    """Refuses a choice that the field cannot take by itself."""
    if _TYPES[field] in _PARSED:
        typed.require({field: value}, {field: str}, where)
    else:
        typed.require({field: value}, {field: _KINDS[field]}, where)
    choices = Recipe.__dataclass_fields__[field].metadata["choices"]
    try:
        if choices:
            check_choice(field, value, choices)
        if _TYPES[field] in _PARSED:
            _PARSED[_TYPES[field]](value)
    except (InputError, argparse.ArgumentTypeError) as error:
        raise InputError(f"{where}: {field} cannot be {value!r}: {error}") from None


def declare(space: Space) -> keras_tuner.HyperParameters:
    """The space as KerasTuner knows it."""
    import keras_tuner

    declared = keras_tuner.HyperParameters()
    for field, values in space.items():
        if isinstance(values, list):
            declared.Choice(field, values, ordered=False if isinstance(values[0], str) else None)
        else:
            kind = declared.Int if _TYPES[field] in _WHOLE else declared.Float
            kind(field, values["min"], values["max"], sampling=values.get("scale", "linear"))
    return declared


def apply(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The recipe with the values of one trial.

    Raises:
        InputError: they do not go together.
    """
    changes = {}
    for field, value in values.items():
        parse = _PARSED.get(_TYPES.get(field, ""))
        changes[field] = parse(value) if parse else value
    return recipe.replace(**changes)
