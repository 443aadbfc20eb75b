"""Reads the search space from a JSON file. The space contains fields of the recipe, with the values to try.

  {"learning_rate": {"min": 0.01, "max": 0.4, "scale": "log"},
   "label_smoothing": {"min": 0, "max": 0.2},
   "global_batch_size": [32, 64, 128],
   "train_sizes": ["", "0:64,14:96"]}

A list contains the possible values. A range includes its ends. Values have the form of the flags of `sqznet.train`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import typed
from sqznet.core.errors import InputError
from sqznet.recipes import Recipe
from sqznet.recipes.recipe import KINDS, check_field

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
WHOLE = (int, int | None)  # types of the fields that take whole numbers
_PARSERS = {tuple[int, ...]: recipes.parse_milestones, tuple[tuple[int, int], ...]: recipes.parse_train_sizes}


def load(name: str, recipe: Recipe = recipes.ARTICLE) -> Space:
    """Returns the named space, or the space in a JSON file.

    Args:
        recipe: each value must be valid in this recipe.

    Raises:
        InputError: there is no such name or file, or a field, a choice or a range in the file is wrong.
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
    """Refuses a value that is not valid in the recipe, alone or together with the other fields of the space."""
    try:
        apply(recipe, {field: value})
    except InputError as error:
        for place in (0, -1):  # sparsity and sparse_epochs, for example, are only valid together
            with contextlib.suppress(InputError):
                apply(recipe, {**{name: _ends(values)[place] for name, values in space.items()}, field: value})
                return
        raise InputError(f"{where}: {error}") from None


def without_network_fields(space: Space, name: str) -> Space:
    """Returns the space without the fields of the network, which --init_weights decides.

    Raises:
        InputError: the user's own space contains one of these fields.
    """
    decided = [field for field in space if field in recipes.NETWORK_FIELDS]
    if decided and name not in SPACES:
        raise InputError(
            f"{name}: {', '.join(decided)} cannot be searched with --init_weights, whose network has its own"
        )
    return {field: values for field, values in space.items() if field not in decided}


def _check(field: str, values: Any, where: str) -> None:
    """Refuses an unknown field, and values that are neither choices nor a range of the type of the field."""
    check_field(field, where)
    if field == "name":
        raise InputError(f"{where}: name cannot be searched")
    if isinstance(values, list):
        if not values:
            raise InputError(f"{where}: {field} must have one choice or more")
        parse = _PARSERS.get(KINDS[field])
        for value in values:
            typed.require({field: value}, {field: str if parse else KINDS[field]}, where)
            try:
                if parse:
                    parse(value)
            except argparse.ArgumentTypeError as error:
                raise InputError(f"{where}: {field} cannot be {value!r}: {error}") from None
        return
    numeric = KINDS[field] in (float, *WHOLE)
    if not numeric or not isinstance(values, dict) or not {"min", "max"} <= set(values) <= {"min", "max", "scale"}:
        raise InputError(
            f"{where}: {field} is {json.dumps(values)}; expected a list of choices"
            + (', or {"min": a, "max": b} with "scale": "log" if wanted' if numeric else "")
        )
    typed.require(values, dict.fromkeys(("min", "max"), KINDS[field]), f"{where}: {field}")
    low, high, scale = values["min"], values["max"], values.get("scale", "linear")
    if not low < high:
        raise InputError(f"{where}: {field} runs from {low!r} to {high!r}; expected two numbers, the lower one first")
    if scale not in ("linear", "log") or (scale == "log" and low <= 0):
        raise InputError(f"{where}: {field} has scale {scale!r}; expected linear, or log with min above 0")


def apply(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Returns the recipe with the values of one trial.

    Raises:
        InputError: the values contradict each other.
    """
    parsers = {field: _PARSERS.get(KINDS[field]) for field in values}
    return recipe.replace(
        **{field: parse(values[field]) if parse else values[field] for field, parse in parsers.items()}
    )
