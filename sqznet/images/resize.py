"""Scales and crops in NumPy, for predictions without TensorFlow. The result equals that of `crop.preprocess_for_eval`.

docs/resize.md specifies the result. Both modules give the same pixels. A pixel may differ by one level if the last bit
of a float changes the rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sqznet.images.preprocessing import CORNER, Preprocessing


def central_box(sides: Sequence[int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Returns the part of a photograph that the network sees: (top, left, height, width), in pixels of the photograph.

    Args:
        sides: height and width of the photograph.
    """
    whole = np.array(sides)
    part = whole if preprocessing.resize == "squash" else np.full(2, whole.min())
    share = np.float32(preprocessing.image_size / preprocessing.resize_to)
    height, width = np.clip(np.rint(part.astype(np.float32) * share).astype(int), 1, whole).tolist()
    return (sides[0] - height) // 2, (sides[1] - width) // 2, height, width


def prepare(photograph: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Scales and crops a photograph to the input of a network.

    Args:
        photograph: uint8 RGB, (height, width, 3), upright.

    Returns:
        uint8, (image_size, image_size, 3).
    """
    top, left, height, width = central_box(photograph.shape[:2], preprocessing)
    box = photograph[top : top + height, left : left + width].astype(np.float32)
    rows, columns = (_weights(length, preprocessing) for length in (height, width))
    tall = np.tensordot(rows, box, axes=(1, 0))  # (size, width, 3)
    square = np.tensordot(tall, columns, axes=(1, 1)).transpose(0, 2, 1)
    return np.clip(np.rint(square), 0, 255).astype(np.uint8)


def _weights(length: int, preprocessing: Preprocessing) -> np.ndarray:
    """Returns the weight of each pixel along a side of the box in each result pixel: float32, (image_size, length)."""
    size = preprocessing.image_size
    scale = length / size
    widened = max(1.0, scale) if preprocessing.antialias else 1.0
    centre = 0.0 if preprocessing.interpolation == CORNER else 0.5
    kernel, radius = (_cubic, 2) if preprocessing.interpolation == "bicubic" else (_triangle, 1)
    weights = np.zeros((size, length))
    for row, at in zip(weights, (np.arange(size) + centre) * scale - centre, strict=True):
        first, last = int(np.floor(at - radius * widened)), int(np.ceil(at + radius * widened))
        taps = np.arange(first, last + 1)
        taps = taps[(taps >= 0) & (taps < length)]  # pixels outside the box have no weight
        values = kernel(np.abs(taps - at) / widened)
        row[taps] = values / values.sum()
    return weights.astype(np.float32)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - distance)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Computes the cubic kernel of Keys (1981), with a = -0.5."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))
