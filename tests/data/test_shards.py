from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sqznet.data import shards, synthetic
from sqznet.data.images import Encoded, Reject


def encode(pixels: np.ndarray, **options) -> Encoded:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return Encoded(buffer.getvalue(), *pixels.shape[:2])


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("size", [(64, 64), (61, 83), (90, 17)])
def test_channel_means_are_of_the_pixels(size, options):
    ramp = np.linspace(20, 220, size[0] * size[1]).reshape(*size, 1) + [30, 0, -15]
    got = shards.channel_means(encode(ramp.astype(np.uint8), **options))
    assert np.abs(got - ramp.mean(axis=(0, 1))).max() < 2


def test_a_grey_photograph_has_three_equal_means():
    red, green, blue = shards.channel_means(encode(np.full((16, 16), 77, np.uint8)))
    assert red == green == blue == pytest.approx(77, abs=1)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_jpeg_cut_short_anywhere_is_rejected(quarters):
    jpeg = synthetic.draw("train/boat/7", 2, seed=0)
    cut = Encoded(jpeg[: len(jpeg) * quarters // 4], 96, 96)
    with pytest.raises(Reject, match="broken: TensorFlow cannot decode it"):
        shards.channel_means(cut)
