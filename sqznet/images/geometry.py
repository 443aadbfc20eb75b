"""The flags that override how a model's photographs are scaled and cut."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from sqznet.core import cli
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import INTERPOLATIONS, RESIZES, Preprocessing

FIELDS = ("resize", "resize_to", "interpolation", "antialias")  # of Preprocessing, each a flag


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how photographs are made to fit, where the model's own way is wrong for them."""
    group = parser.add_argument_group(
        "how photographs are scaled and cut",
        "each overrides what the model asks for; pictures that are cropped already are not cropped again with "
        "--resize=squash and --resize_to=SIDE of the model's input, such as 227",
    )
    group.add_argument(
        "--resize", choices=RESIZES, help="scale the short side to resize_to, or squash both sides to it"
    )
    group.add_argument(
        "--resize_to", type=cli.positive, help="side to scale to before the central square is cut out, in pixels"
    )
    group.add_argument("--interpolation", choices=INTERPOLATIONS, help="how photographs are scaled")
    group.add_argument(
        "--antialias", action=argparse.BooleanOptionalAction, help="average pixels that fall together in scaling down"
    )


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of Preprocessing that flags of `add_flags` have set."""
    found = {name: getattr(args, name) for name in FIELDS}
    return {name: value for name, value in found.items() if value is not None}


def applied(preprocessing: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """A model's preprocessing with the fields that `given` has found.

    Raises:
        InputError: they do not go together.
    """
    resize_to, size = given.get("resize_to"), preprocessing.image_size
    if resize_to is not None and resize_to < size:
        raise InputError(
            f"--resize_to={resize_to} is too small: the model sees {size} x {size} pixels, cut out of the scaled "
            f"photograph; give --resize_to={size} or more"
        )
    return dataclasses.replace(preprocessing, **given)
