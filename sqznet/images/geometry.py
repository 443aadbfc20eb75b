"""Defines the flags that override how a model's photographs are scaled and cropped."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from sqznet.core import cli
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import INTERPOLATIONS, RESIZES, Preprocessing

FIELDS = ("resize", "resize_to", "interpolation", "antialias")  # of Preprocessing, each a flag


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how photographs are scaled and cropped",
        "Each flag overrides the setting of the model. To use the whole area of photographs that are already cropped, "
        "pass --resize=squash and set --resize_to to the side of the model's input, for example 227.",
    )
    group.add_argument("--resize", choices=RESIZES, help="scale the short side to resize_to, or both sides (squash)")
    group.add_argument(
        "--resize_to",
        type=cli.positive,
        help="side in pixels to scale to, before the central square is cut out",
    )
    group.add_argument("--interpolation", choices=INTERPOLATIONS, help="interpolation between pixels")
    group.add_argument("--antialias", action=argparse.BooleanOptionalAction, help="low-pass filter when scaling down")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the fields of Preprocessing that the user has set with the flags of `add_flags`."""
    return {name: getattr(args, name) for name in FIELDS if getattr(args, name) is not None}


def as_flags(given: dict[str, Any]) -> list[str]:
    """Returns the fields that `given` has found, as flags of a command line."""
    antialias = {True: "--antialias", False: "--no-antialias"}
    return [antialias[value] if name == "antialias" else f"--{name}={value}" for name, value in given.items()]


def applied(preprocessing: Preprocessing, given: dict[str, Any]) -> Preprocessing:
    """Returns the preprocessing with the fields from `given` replaced.

    Raises:
        InputError: the settings contradict each other.
    """
    resize_to, size = given.get("resize_to"), preprocessing.image_size
    if resize_to is not None and resize_to < size:
        raise InputError(
            f"--resize_to={resize_to} is too small: the model takes {size} x {size} pixels, cropped from the scaled "
            f"photograph; give --resize_to={size} or more"
        )
    return dataclasses.replace(preprocessing, **given)
