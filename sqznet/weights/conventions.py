"""Describes the pixels that published networks were trained on.

With these facts, imported networks can take RGB 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqznet.images.preprocessing import Preprocessing


@dataclass(frozen=True)
class Convention:
    """Contains colour order and scale of the input. Means and deviations are R, G, B, for pixels of 0..255."""

    about: str
    colour_order: str
    means: tuple[float, float, float]
    deviations: tuple[float, float, float]
    preprocessing: Preprocessing  # with which the published accuracy was measured

    def kernel(self, conv1: np.ndarray) -> np.ndarray:
        """Converts conv1's kernel (out, in, height, width) to RGB pixels."""
        return conv1[:, ::-1] if self.colour_order == "BGR" else conv1


_ONES = (1.0, 1.0, 1.0)
_CAFFE_CROP = Preprocessing(227, 256, "squash", "bicubic")
CONVENTIONS = {
    "caffe": Convention(
        "BGR less 104, 117, 123 (the paper's release)", "BGR", (123.0, 117.0, 104.0), _ONES, _CAFFE_CROP
    ),
    "torchvision": Convention(
        "RGB / 255, less 0.485, 0.456, 0.406, over 0.229, 0.224, 0.225 (torchvision, Gluon)",
        "RGB",
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
        Preprocessing(224, 256),
    ),
    "article": Convention(
        "RGB less 122.687, 116.656, 104.000 (the article's MXNet network)",
        "RGB",
        (122.687, 116.656, 104.0),
        _ONES,
        Preprocessing(227, 256),
    ),
    "raw": Convention(
        "RGB 0..255 as they are (files exported by sqznet)", "RGB", (0.0, 0.0, 0.0), _ONES, Preprocessing(227, 256)
    ),
}
