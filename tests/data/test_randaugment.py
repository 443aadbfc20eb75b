"""Compares the operations of RandAugment with Pillow's, if Pillow has them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.data import augment, randaugment
from tests.conftest import TINY

GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """40 x 40 with edges, gradients and unequal channels."""
    y, x = np.mgrid[:40, :40]
    pixels = np.stack([40 + 4 * x, 200 - 3 * y, 60 + 60 * ((x // 8 + y // 8) % 2)], axis=-1)
    return (pixels + np.random.default_rng(0).integers(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8)


def applied(photograph: np.ndarray, name: str, amount: float) -> np.ndarray:
    return randaugment.apply(tf.constant(photograph), randaugment.NAMES.index(name), amount).numpy()


def moved(x: float, y: float):
    return lambda image: image.transform((40, 40), Image.Transform.AFFINE, (1, 0, x, 0, 1, y), fillcolor=GREY)


@pytest.mark.parametrize(
    ("name", "amount", "pillows"),
    [
        ("identity", 1.0, lambda image: image),
        ("auto_contrast", 1.0, ImageOps.autocontrast),
        ("equalize", 1.0, ImageOps.equalize),
        ("posterize", 0.5, lambda image: ImageOps.posterize(image, 6)),
        ("posterize", -1.0, lambda image: ImageOps.posterize(image, 4)),
        ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128)),
        ("brightness", 0.5, lambda image: ImageEnhance.Brightness(image).enhance(1.45)),
        ("brightness", -1.0, lambda image: ImageEnhance.Brightness(image).enhance(0.1)),
        ("contrast", -0.5, lambda image: ImageEnhance.Contrast(image).enhance(0.55)),
        ("color", 1.0, lambda image: ImageEnhance.Color(image).enhance(1.9)),
        ("sharpness", 0.5, lambda image: ImageEnhance.Sharpness(image).enhance(1.45)),
        ("translate_x", 0.5, moved(9, 0)),
        ("translate_y", -1.0, moved(0, -18)),
    ],
)
def test_an_operation_gives_pillows_result(photograph, name, amount, pillows):
    expected = np.asarray(pillows(Image.fromarray(photograph)), int)
    assert np.abs(applied(photograph, name, amount) - expected).max() <= 2  # of rounding


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("rotate", [[np.cos(np.pi / 12), -np.sin(np.pi / 12)], [np.sin(np.pi / 12), np.cos(np.pi / 12)]]),
        ("shear_x", [[1, 0.15], [0, 1]]),
        ("shear_y", [[1, 0], [0.15, 1]]),
    ],
)
def test_rotation_and_shear_are_about_the_centre(photograph, name, matrix):
    """Checks each pixel against the interpolation of its four neighbours, if none of them is outside."""
    got, photograph = applied(photograph, name, 0.5), photograph.astype(float)
    y, x = np.mgrid[:40, :40] - 19.5
    from_x, from_y = (a * x + b * y + 19.5 for a, b in matrix)
    inside = (from_x > 0) & (from_x < 39) & (from_y > 0) & (from_y < 39)
    assert inside.mean() > 0.7
    left, top = (np.floor(each[inside]).astype(int) for each in (from_x, from_y))
    right, down = (from_x[inside] - left)[:, None], (from_y[inside] - top)[:, None]
    above = photograph[top, left] * (1 - right) + photograph[top, left + 1] * right
    below = photograph[top + 1, left] * (1 - right) + photograph[top + 1, left + 1] * right
    assert np.abs(got[inside] - (above * (1 - down) + below * down)).max() <= 1.01
    assert (got[0, 0] == 128).all() or (got[0, 39] == 128).all(), "what comes in from outside is grey"


def test_the_same_draws_give_the_same_image_and_type_range_and_shape_stay(photograph):
    recipe, made = TINY.replace(randaugment=9.0), []
    for draws in augment.draw(tf.constant([1, 2], tf.int64), 60, recipe):
        image = augment.augment(tf.constant(photograph), draws, recipe)
        assert (image.dtype, image.shape) == (tf.uint8, photograph.shape)
        np.testing.assert_array_equal(image, augment.augment(tf.constant(photograph), draws, recipe))
        made.append(image.numpy().tobytes())
    assert len(set(made)) > 50  # two in 196 pairs are the identity twice


def test_it_runs_in_a_graph_with_an_unknown_size(photograph):
    recipe = TINY.replace(randaugment=5.0)
    draws = augment.draw(tf.constant([3, 4], tf.int64), 20, recipe)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([16])])
    def in_graph(image, row):
        return augment.augment(image, row, recipe)

    for row in draws:
        np.testing.assert_array_equal(in_graph(photograph, row), augment.augment(tf.constant(photograph), row, recipe))


def test_every_operation_is_drawn_in_both_directions(photograph, monkeypatch):
    seen = []
    monkeypatch.setattr(randaugment, "apply", lambda image, number, amount: seen.append((int(number), amount)) or image)
    for draws in augment.draw(tf.constant([5, 6], tf.int64), 200, TINY)[:, 12:]:
        randaugment.randaugment(tf.constant(photograph), draws, 5.0)
    assert len(seen) == 200 * randaugment.OPERATIONS
    assert {(number, round(float(amount), 3)) for number, amount in seen} == {
        (number, amount) for number in range(len(randaugment.NAMES)) for amount in (-0.5, 0.5)
    }


def test_a_strength_out_of_range_is_refused():
    for strength in (-1.0, 11.0):
        with pytest.raises(InputError, match=f"randaugment is {strength}; it must be 0 to 10"):
            recipes.ARTICLE.replace(randaugment=strength)
    assert not recipes.ARTICLE.augments and recipes.ARTICLE.replace(randaugment=1.0).augments
