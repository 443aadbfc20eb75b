"""Defines the settings of the input contract: how a photograph is scaled and cropped (see `images/__init__.py`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqznet.core.errors import InputError

RESIZES = ("short", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")
# As bilinear, but output pixel x samples at x * scale instead of (x + 0.5) * scale - 0.5, so that the result is shifted
# by half a pixel. Only to imitate other runtimes.
CORNER = "bilinear_corner"
# How photographs are decoded, as written in manifest.json; the same for every model.
DECODING = {"colour_space": "sRGB", "orientation": "applied", "transparency": "white"}


@dataclass(frozen=True)
class Preprocessing:
    """States how a photograph becomes the input of a network. Every file made from a recipe keeps these settings.

    Raises:
        InputError: a value is unknown or out of range, or two values contradict each other.
    """

    image_size: int  # side of the input, in pixels
    resize_to: int  # side that the photograph is scaled to before the central square is cut out, in pixels
    resize: str = "short"  # "short" scales the short side to resize_to, "squash" both sides
    interpolation: str = "bilinear"
    antialias: bool = True  # low-pass filter when scaling down

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, RESIZES)
        check_choice("interpolation", self.interpolation, (*INTERPOLATIONS, CORNER))
        for name in ("image_size", "resize_to"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value}; it must be a whole number, 1 or more")
        if not isinstance(self.antialias, bool):
            raise InputError(f"antialias is {self.antialias!r}; it must be true or false")
        if self.antialias and self.interpolation == CORNER:
            raise InputError(f"interpolation is {CORNER}, which is never antialiased; antialias must be false")
        if self.resize_to < self.image_size:
            raise InputError(
                f"resize_to is {self.resize_to} and image_size {self.image_size}: a crop of {self.image_size} "
                "pixels does not fit; raise --resize_to or lower --image_size"
            )

    @property
    def steps(self) -> str:
        """Returns the instructions for people. manifest.json and exported files contain this text."""
        scaled = "scale the short side" if self.resize == "short" else "scale both sides, whatever the shape,"
        antialiased = "antialiased" if self.antialias else "not antialiased"
        return (
            "turn the photograph upright, convert its colours to sRGB, put transparency onto white, "
            f"{scaled} to {self.resize_to} pixels ({self.interpolation}, {antialiased}), cut out the central square of "
            f"{self.image_size}, and give the pixels as they are: no mean, no scale"
        )

    @property
    def rule(self) -> str:
        """Returns the formulas of the crop and the scaling, as written in manifest.json and in exported files."""
        sides = "both sides round(f * short side)"
        if self.resize == "squash":
            sides = "the sides round(f * height) and round(f * width)"
        kernel = "max(0, 1 - t)"
        if self.interpolation == "bicubic":
            kernel = (
                "1.5 t^3 - 2.5 t^2 + 1 for t < 1, -0.5 t^3 + 2.5 t^2 - 4 t + 2 for 1 <= t < 2, else 0 (Keys, a = -0.5)"
            )
        centre = "i * s" if self.interpolation == CORNER else "(i + 0.5) * s - 0.5 (half-pixel centres)"
        width = "max(1, s) (antialiased)" if self.antialias else "1 (not antialiased)"
        return (
            f"Box: f = {self.image_size} / {self.resize_to} in float32; {sides}, at least 1; round() takes halves to "
            "the even number; top = floor((height - box height) / 2), left = floor((width - box width) / 2). Scaling "
            f"of the box, for rows and columns separately: s = box side / {self.image_size}; pixel i of the result is "
            f"centred at x = {centre}; pixel j of the box has the weight k(|j - x| / w), w = {width}, k(t) = {kernel}; "
            "weights are divided by their sum; pixels outside the box have no weight. Result: round() to whole "
            "numbers, clipped to 0..255."
        )

    def at(self, image_size: int) -> Preprocessing:
        """Returns the same settings for another input size. The crop keeps its fraction of the photograph."""
        resize_to = round(self.resize_to * image_size / self.image_size)
        return dataclasses.replace(self, image_size=image_size, resize_to=resize_to)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises InputError if the value is not one of the choices."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


@dataclass(frozen=True)
class RuntimeResize:
    """States how a runtime resizes a photograph, if it knows only the input size of the network."""

    resize: str
    interpolation: str
    antialias: bool

    def at(self, image_size: int) -> Preprocessing:
        """Returns the preprocessing for a network whose input has sides of `image_size` pixels."""
        return Preprocessing(image_size, image_size, self.resize, self.interpolation, self.antialias)


RUNTIME_RESIZES = {
    "mediapipe": RuntimeResize("squash", CORNER, False),  # MediaPipe Tasks on the CPU, the whole photograph
    "android": RuntimeResize("short", "bilinear", False),  # Bitmap.createScaledBitmap(filter=true) of the square
    # Core Graphics, vImage or Vision's centerCrop, of the central square. Apple documents the crop but not the kernel;
    # antialiased bilinear stands for it.
    "ios": RuntimeResize("short", "bilinear", True),
}
