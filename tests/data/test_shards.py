from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sqznet.data import shards
from sqznet.data.sources import synthetic
from sqznet.images.decode import Reject


def encode(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("size", [(64, 64), (221, 163), (90, 160)])
def test_channel_means_are_of_the_pixels(size, options):
    ramp = np.linspace(20, 220, size[0] * size[1]).reshape(*size, 1) + [30, 0, -15]
    (got,) = shards.channel_means([encode(ramp.astype(np.uint8), **options)])
    assert np.abs(got - ramp.mean(axis=(0, 1))).max() < 3


def test_a_grey_photograph_has_three_equal_means():
    ((red, green, blue),) = shards.channel_means([encode(np.full((16, 16), 77, np.uint8))])
    assert red == green == blue == pytest.approx(77, abs=1)


def test_jpegs_cut_short_anywhere_are_rejected_and_the_others_kept():
    whole = synthetic.draw("train/boat/7", 2, seed=0)
    cut = [whole[: len(whole) * quarters // 4] for quarters in (1, 2, 3)]
    first, *rejects, last = shards.channel_means([whole, *cut, whole])
    assert (first == last).all() and first.shape == (3,)
    assert all(isinstance(each, Reject) and str(each).startswith("broken: TensorFlow cannot") for each in rejects)
