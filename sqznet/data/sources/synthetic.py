"""Provides the built-in demo set `synthetic`: drawings of ten objects. A drawing is made when it is read.

The colour does not depend on the class. Position, size, rotation, background, clutter, noise and JPEG quality vary. A
linear model on the pixels stays below 60 % accuracy (tests/data/test_synthetic.py). A small convolutional network
reaches more.
"""

from __future__ import annotations

import colorsys
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sqznet.data.sources.listing import Photo, Source

SIDE = 96  # pixels
PER_CLASS = {"train": 300, "val": 50, "test": 60}
SUPERSAMPLING = 2

Point = tuple[float, float]
Part = tuple[list[Point], float]  # a polygon in -1..1, y down; its brightness relative to the object's, -1: a hole


def _arc(radius: float, start: float = 0, end: float = 360, centre: Point = (0, 0), flat: float = 1) -> list[Point]:
    """Returns points along an ellipse, angles in degrees."""
    angles = np.radians(np.linspace(start, end, 40))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * flat * math.sin(a)) for a in angles]


def _star(points: int, inner: float) -> list[Point]:
    radii = [1.0, inner] * points
    return [(r * math.sin(math.pi * i / points), -r * math.cos(math.pi * i / points)) for i, r in enumerate(radii)]


def _box(left: float, top: float, right: float, bottom: float) -> list[Point]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


OBJECTS: dict[str, list[Part]] = {
    "arrow": [([(0, -1), (0.75, -0.1), (0.3, -0.1), (0.3, 1), (-0.3, 1), (-0.3, -0.1), (-0.75, -0.1)], 1.0)],
    "ball": [(_arc(0.95), 0.75), (_arc(0.6, centre=(-0.2, -0.2)), 1.0), (_arc(0.2, centre=(-0.4, -0.4)), 1.35)],
    "boat": [
        ([(-1, 0.35), (1, 0.35), (0.6, 0.95), (-0.6, 0.95)], 0.7),
        (_box(-0.06, -1, 0.06, 0.35), 0.5),
        ([(0.12, -0.9), (0.85, 0.2), (0.12, 0.2)], 1.25),
    ],
    "cross": [(_box(-0.28, -1, 0.28, 1), 1.0), (_box(-1, -0.28, 1, 0.28), 1.0)],
    "cup": [
        (_arc(0.42, centre=(0.62, -0.05)), 0.8),
        (_arc(0.22, centre=(0.62, -0.05)), -1.0),
        ([(-0.75, -0.7), (0.65, -0.7), (0.45, 0.85), (-0.55, 0.85)], 1.0),
        (_arc(0.7, centre=(-0.05, -0.7), flat=0.22), 0.55),
    ],
    "house": [
        (_box(-0.75, -0.15, 0.75, 0.95), 1.0),
        ([(-1, -0.15), (0, -1), (1, -0.15)], 0.6),
        (_box(-0.2, 0.35, 0.2, 0.95), 0.4),
    ],
    "moon": [(_arc(0.95, 40, 320) + _arc(0.72, 305, 55, centre=(0.3, 0)), 1.0)],
    "ring": [(_arc(0.95), 1.0), (_arc(0.55), -1.0)],
    "star": [(_star(5, 0.42), 1.0)],
    "tree": [
        (_box(-0.15, 0.3, 0.15, 1), 0.45),
        ([(0, -1), (0.55, -0.25), (-0.55, -0.25)], 1.1),
        ([(0, -0.6), (0.75, 0.45), (-0.75, 0.45)], 0.9),
    ],
}

CLASSES = tuple(sorted(OBJECTS))


@dataclass
class SyntheticSource(Source):
    seed: int

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        for photo in photos:
            yield draw(photo.key, photo.label, self.seed)


def open_synthetic(seed: int) -> SyntheticSource:
    splits = {
        split: [
            Photo(f"{split}/{name}/{index:05d}", label) for label, name in enumerate(CLASSES) for index in range(count)
        ]
        for split, count in PER_CLASS.items()
    }
    return SyntheticSource(list(CLASSES), splits, [], seed)


def draw(key: str, label: int, seed: int) -> bytes:
    """Draws one drawing as JPEG bytes.

    The bytes depend only on the key, the label (an index into CLASSES) and the seed.
    """
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    side = SIDE * SUPERSAMPLING
    background = _background(rng, side)
    image = background.copy()
    canvas = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 7)):
        _clutter(rng, canvas, side)
    _object(rng, image, background, OBJECTS[CLASSES[label]])
    image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    pixels = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(2, 14), (SIDE, SIDE, 3))
    buffer = io.BytesIO()
    noisy = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    noisy.save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
    return buffer.getvalue()


def _colour(rng: np.random.Generator, brightness: float) -> tuple[int, ...]:
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.15, 0.9), brightness)
    return tuple(round(255 * channel) for channel in (red, green, blue))


def _background(rng: np.random.Generator, side: int) -> Image.Image:
    """Draws a gradient between two colours, in any direction."""
    first, second = (np.array(_colour(rng, rng.uniform(0.1, 0.95)), np.float32) for _ in range(2))
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    share = (np.cos(angle) * x + np.sin(angle) * y + 0.7).clip(0, 1.4)[..., None] / 1.4
    return Image.fromarray((first * share + second * (1 - share)).astype(np.uint8))


def _clutter(rng: np.random.Generator, canvas: ImageDraw.ImageDraw, side: int) -> None:
    """Draws a line or a small ellipse. This drawing does not depend on the class."""
    x, y, dx, dy = rng.uniform(0, side, 4)
    colour = _colour(rng, rng.uniform(0.1, 1))
    if rng.random() < 0.6:
        canvas.line([(x, y), (dx, dy)], fill=colour, width=int(rng.integers(1, 5)))
    else:
        radius = rng.uniform(2, side / 16)
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius * rng.uniform(0.5, 1.5)], fill=colour)


def _object(rng: np.random.Generator, image: Image.Image, background: Image.Image, parts: list[Part]) -> None:
    """Draws the rotated, scaled and moved parts. Their colour differs from the background by 70 levels or more."""
    side = image.width
    size = rng.uniform(0.22, 0.42) * side
    turn = math.radians(rng.uniform(-30, 30))
    stretch = rng.uniform(0.8, 1.2)
    mirror = rng.choice([-1, 1])
    centre = rng.uniform(size, side - size, 2)
    behind = np.asarray(background.getpixel((int(centre[0]), int(centre[1]))), np.float32)
    colour = behind
    while np.abs(colour - behind).max() < 70:
        colour = np.array(_colour(rng, rng.uniform(0.2, 0.85)), np.float32)

    canvas = ImageDraw.Draw(image)
    for polygon, brightness in parts:
        moved = [(mirror * px * stretch * size, py * size) for px, py in polygon]
        cosine, sine = math.cos(turn), math.sin(turn)
        placed = [(centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine) for x, y in moved]
        fill = behind if brightness < 0 else (colour * brightness).clip(0, 255)
        canvas.polygon(placed, fill=tuple(int(channel) for channel in fill))
