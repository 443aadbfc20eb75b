"""The input contract: how a photograph becomes the square that a network sees, and what runtimes do by themselves.

`docs/resize.md` has it to the pixel; `data/preprocess.py` is what computes it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sqznet.core.errors import InputError

RESIZES = ("short", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")
# As bilinear, but output pixel x looks at x * scale, not at (x + 0.5) * scale - 0.5: half a pixel from where it should.
# Only to repeat what others do.
CORNER = "bilinear_corner"
# How a photograph becomes RGB pixels of 8 bits before it is scaled, as manifest.json says it; the same for every model.
DECODING = {"colour_space": "sRGB", "orientation": "applied", "transparency": "white"}


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes the square that a network sees: the part of a recipe that every file made from it keeps.

    Raises:
        InputError: the values do not go together, or are none that exist.
    """

    image_size: int  # side of the square, in pixels
    resize_to: int  # side that the photograph is scaled to before the square is cut from its centre, in pixels
    resize: str = "short"  # the short side is scaled to that, or ("squash") both sides
    interpolation: str = "bilinear"
    antialias: bool = True  # pixels that fall together are averaged; else most of them are passed over

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
        """What to do, in words."""
        scaled = "scale the short side" if self.resize == "short" else "scale both sides, whatever the shape,"
        antialiased = "antialiased" if self.antialias else "not antialiased"
        return (
            "turn the photograph upright, convert its colours to sRGB, put transparency onto white, "
            f"{scaled} to {self.resize_to} pixels ({self.interpolation}, {antialiased}), cut out the central square of "
            f"{self.image_size}, and give the pixels as they are: no mean, no scale"
        )

    def at(self, image_size: int) -> Preprocessing:
        """The same for another size: the crop keeps its share of the photograph."""
        resize_to = round(self.resize_to * image_size / self.image_size)
        return dataclasses.replace(self, image_size=image_size, resize_to=resize_to)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises InputError where a setting has a value that is none of its choices."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


@dataclass(frozen=True)
class Habit:
    """How a runtime makes a photograph fit a network that says its input's size and no more."""

    about: str
    resize: str
    interpolation: str
    antialias: bool

    def at(self, image_size: int) -> Preprocessing:
        """The same as a contract of a network whose input has that side."""
        return Preprocessing(image_size, image_size, self.resize, self.interpolation, self.antialias)


RUNTIMES = {
    "mediapipe": Habit("MediaPipe Tasks on the processor, the whole photograph", "squash", CORNER, False),
    "android": Habit("Bitmap.createScaledBitmap with filter, of the central square", "short", "bilinear", False),
    # Apple documents which part Vision scales, not the kernels: an antialiased bilinear one stands for them.
    "ios": Habit("Core Graphics, vImage or Vision's centerCrop, of the central square", "short", "bilinear", True),
}
