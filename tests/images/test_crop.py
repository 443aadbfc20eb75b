from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from sqznet.data.sources import synthetic
from sqznet.images import crop, decode
from sqznet.images.preprocessing import CORNER, RUNTIME_RESIZES, Preprocessing
from sqznet.images.resize import prepare
from sqznet.recipes import IMAGENETTE, Recipe

JPEG = synthetic.draw("train/boat/7", 2, seed=0)  # 96 x 96


def drawn(seed: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    return crop.draw(seed, 1, recipe.min_crop_area)[0]


def photograph(width: int, height: int) -> bytes:
    """A smooth gradient: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / (width - 1), 255 * y / (height - 1), np.full_like(x, 128.0)], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).save(buffer, "JPEG", quality=98)
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (256, 256), (1000, 260), (40, 30)])
def test_eval_equals_scaling_the_short_side_and_cutting_out_the_middle(width, height):
    content = photograph(width, height)
    got = crop.preprocess_for_eval(tf.constant(content), Preprocessing(227, 256)).numpy().astype(int)

    image = Image.open(io.BytesIO(content))
    scale = 256 / min(width, height)
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 227) // 2, (image.height - 227) // 2
    expected = np.asarray(image.crop((left, top, left + 227, top + 227))).astype(int)
    assert got.shape == (227, 227, 3)
    # The box is in whole pixels of the photograph, so the two may be half a pixel apart.
    assert np.abs(got - expected).mean() < 1 + 255 / min(width, height) / 2


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 500), (256, 256)])
def test_squashing_scales_both_sides_and_cuts_out_the_middle(width, height):
    content = photograph(width, height)
    preprocessing = Preprocessing(227, 256, "squash", "bicubic")
    got = crop.preprocess_for_eval(tf.constant(content), preprocessing).numpy().astype(int)

    image = Image.open(io.BytesIO(content)).resize((256, 256), Image.Resampling.BICUBIC)
    expected = np.asarray(image.crop((14, 14, 241, 241))).astype(int)
    assert got.shape == (227, 227, 3)
    # Half a pixel of 256 lies between a crop at 14 and one in the middle.
    assert np.abs(got - expected).mean() < 1.5


def test_interpolations_differ_where_there_is_detail():
    got = [
        crop.preprocess_for_eval(tf.constant(JPEG), Preprocessing(64, 64, "short", interpolation)).numpy()
        for interpolation in ("bilinear", "bicubic")
    ]
    assert (got[0] != got[1]).mean() > 0.01


def weights(length: int, size: int, kernel, radius: float, antialias: bool, centre: float = 0.5) -> np.ndarray:
    """The weight of each of `length` pixels in each of `size`, as docs/resize.md specifies it."""
    scale = length / size
    widened = max(1.0, scale) if antialias else 1.0
    rows = np.zeros((size, length))
    for i in range(size):
        x = (i + centre) * scale - centre
        taps = np.arange(int(np.floor(x - radius * widened)), int(np.ceil(x + radius * widened)) + 1)
        taps = taps[(taps >= 0) & (taps < length)]  # pixels outside have no weight
        values = kernel(np.abs(taps - x) / widened)
        rows[i, taps] = values / values.sum()
    return rows


def triangle(x):
    return np.maximum(0, 1 - x)


def cubic(x):  # Keys, a = -0.5
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


@pytest.mark.parametrize("resize", ["short", "squash"])
@pytest.mark.parametrize(
    ("interpolation", "antialias", "kernel", "radius", "centre"),
    [
        ("bilinear", True, triangle, 1, 0.5),
        ("bilinear", False, triangle, 1, 0.5),
        ("bicubic", True, cubic, 2, 0.5),
        ("bicubic", False, cubic, 2, 0.5),
        (CORNER, False, triangle, 1, 0.0),
    ],
)
@pytest.mark.parametrize("size", [40, 130])  # scaled down, and up
def test_pixels_are_those_of_the_documented_contract(resize, interpolation, antialias, kernel, radius, centre, size):
    image = np.random.default_rng(0).integers(0, 256, (70, 101, 3), np.uint8)
    jpeg = tf.io.encode_jpeg(image)
    got = crop.preprocess_for_eval(jpeg, Preprocessing(size, size, resize, interpolation, antialias)).numpy()
    pixels = tf.io.decode_jpeg(jpeg).numpy().astype(float)
    prepared = prepare(pixels.astype(np.uint8), Preprocessing(size, size, resize, interpolation, antialias))
    if resize == "short":
        pixels = pixels[:, 15 : 15 + 70]  # (101 - 70) // 2
    height, width, _ = pixels.shape
    expected = np.einsum(
        "yh,hwc,xw->yxc",
        weights(height, size, kernel, radius, antialias, centre),
        pixels,
        weights(width, size, kernel, radius, antialias, centre),
    )
    # Rounded, and of float32. TensorFlow rounds the weights of the plain cubic kernel to a table of 1,024 entries.
    assert np.abs(got - expected.clip(0, 255)).max() < (0.75 if interpolation == "bicubic" and not antialias else 0.51)
    assert np.abs(prepared - expected.clip(0, 255)).max() < 0.51


@pytest.mark.parametrize("side", [32, 64])
def test_a_small_picture_keeps_its_pixels_on_the_way_through_a_record(side):
    fine = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fine).save(buffer, "PNG")
    jpeg = decode.to_jpeg(buffer.getvalue()).content
    got = crop.preprocess_for_eval(tf.constant(jpeg), Preprocessing(side, side)).numpy().astype(int)
    assert np.abs(got - fine).mean() < 1


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_antialiasing_is_honoured_alike_eagerly_and_in_a_dataset(interpolation, antialias):
    preprocessing = Preprocessing(24, 24, "squash", interpolation, antialias)
    eager = crop.preprocess_for_eval(tf.constant(JPEG), preprocessing).numpy()
    dataset = tf.data.Dataset.from_tensors(JPEG).map(lambda jpeg: crop.preprocess_for_eval(jpeg, preprocessing))
    (mapped,) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(eager, mapped)
    other = Preprocessing(24, 24, "squash", interpolation, not antialias)
    assert (eager != crop.preprocess_for_eval(tf.constant(JPEG), other).numpy()).mean() > 0.1


def crops(seeds: tf.Tensor, recipe: Recipe, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Training crops of JPEG, made one by one and in a dataset."""

    def one(seed):
        return crop.preprocess_for_train(
            tf.constant(JPEG), drawn(seed, recipe), recipe.crop, recipe.preprocessing, size
        )

    mapped = tf.data.Dataset.from_tensor_slices(seeds).map(one)
    return np.stack([one(seed).numpy() for seed in seeds]), np.stack(list(mapped.as_numpy_iterator()))


def test_training_honours_antialiasing_in_a_dataset():
    seeds = tf.constant([[1, 2], [3, 4]], tf.int64)
    made = []
    for antialias in (True, False):
        recipe = IMAGENETTE.replace(antialias=antialias)
        eager, mapped = crops(seeds, recipe, 24)
        np.testing.assert_array_equal(eager, mapped)
        made.append(eager)
    assert (made[0] != made[1]).mean() > 0.1


def test_mediapipe_samples_single_pixels_from_the_corner():
    stripes = np.zeros((96, 192, 3), np.uint8)
    stripes[::3, ::6] = 255  # exactly the sampled pixels
    buffer = io.BytesIO()
    Image.fromarray(stripes).save(buffer, "JPEG", quality=100, subsampling=0)
    got = crop.preprocess_for_eval(tf.constant(buffer.getvalue()), RUNTIME_RESIZES["mediapipe"].at(32)).numpy()
    assert got.mean() > 200


def test_a_greyscale_jpeg_becomes_three_equal_channels():
    buffer = io.BytesIO()
    Image.open(io.BytesIO(JPEG)).convert("L").save(buffer, "JPEG")
    got = crop.preprocess_for_eval(tf.constant(buffer.getvalue()), Preprocessing(64, 64)).numpy()
    assert (got[..., 0] == got[..., 1]).all() and (got[..., 0] == got[..., 2]).all()


@pytest.mark.parametrize("recipe", [Recipe(image_size=48, resize_to=56), IMAGENETTE], ids=["window", "resized"])
def test_a_training_crop_is_the_same_eagerly_and_in_a_dataset(recipe):
    seeds = tf.constant([[1, 2], [3, 4], [5, 6]], tf.int64)
    eager, mapped = crops(seeds, recipe, 32)
    np.testing.assert_array_equal(eager, mapped)
    assert eager[0].dtype == np.uint8
    assert not (eager[0] == eager[1]).all()


@pytest.mark.parametrize("kind", [Preprocessing(64, 73), Preprocessing(227, 256, "squash", "bicubic")])
def test_predictions_without_tensorflow_see_the_same_part_of_a_photograph(kind):
    """The JPEG decoders differ by a few levels."""
    content = photograph(301, 222)
    got = prepare(decode.to_pixels(content), kind).astype(int)
    expected = crop.preprocess_for_eval(tf.constant(content), kind).numpy().astype(int)
    assert np.abs(got - expected).max() <= 6 and np.abs(got - expected).mean() < 1.5


def test_half_of_the_crops_are_mirrored():
    recipe = Recipe(image_size=64, resize_to=64)  # a window of the whole image: only the mirror is random
    content = tf.constant(photograph(96, 96))
    rows = crop.draw(tf.constant([0, 0], tf.int64), 200, recipe.min_crop_area)
    images = [crop.preprocess_for_train(content, draws, recipe.crop, recipe.preprocessing, 64) for draws in rows]
    mirrored = sum(int(image[0, 0, 0]) > int(image[0, -1, 0]) for image in images)
    assert 70 < mirrored < 130


def test_resized_crops_keep_to_their_areas_and_aspect_ratios():
    draws = np.random.default_rng(0).random((2, 1000), np.float32)
    heights, widths = (side.numpy() for side in crop.resized_crop(*draws, min_area=0.25))
    areas, aspects = heights * widths, widths / heights
    assert 0.25 <= areas.min() < 0.26 and 0.99 < areas.max() < 1.0001
    assert np.abs(np.sort(areas) - np.linspace(0.25, 1, 1000)).max() < 0.05  # uniform
    assert 0.75 <= aspects.min() < 0.76 and 1.32 < aspects.max() < 1.3334
    assert np.abs(np.sort(np.log(aspects)) - np.linspace(np.log(3 / 4), np.log(4 / 3), 1000)).max() < 0.04


@pytest.mark.parametrize(("width", "height"), [(400, 300), (300, 400), (90, 300)])
def test_a_training_crop_shows_the_region_that_was_drawn(width, height):
    """In the gradient, red is the column and green the row of a pixel."""
    content = photograph(width, height)
    for size in (24, 64, 250):  # an eighth to a half in the decoder; and scaled up
        for draws in crop.draw(tf.constant([0, 1], tf.int64), 12, IMAGENETTE.min_crop_area).numpy():
            how = IMAGENETTE.crop, IMAGENETTE.preprocessing
            image = crop.preprocess_for_train(tf.constant(content), draws, *how, size).numpy()
            side = (width * height) ** 0.5
            tall, wide = min(height, round(draws[0] * side)), min(width, round(draws[1] * side))
            top, left = np.floor(draws[2] * (height - tall + 1)), np.floor(draws[3] * (width - wide + 1))
            rows, columns = ((np.arange(size) + 0.5) / size * length for length in (tall, wide))
            red = 255 * (left + columns - 0.5) / (width - 1)
            green = 255 * (top + rows - 0.5) / (height - 1)
            if draws[4] < 0.5:
                red = red[::-1]
            # The decoder's box is in whole pixels of what it scales down to: up to eight of the photograph's.
            halved = max(ratio for ratio in (1, 2, 4, 8) if min(tall, wide) >= ratio * size or ratio == 1)
            for got, wanted, length in ((image[..., 0].mean(0), red, width), (image[..., 1].mean(1), green, height)):
                assert np.abs(got - wanted).max() < 3 + 255 * 2 * halved / length


def test_a_photograph_much_larger_than_the_crop_is_averaged_not_sampled():
    checks = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16)))[..., None].repeat(3, -1)
    noise = np.random.default_rng(0).integers(-60, 60, (128, 128, 1))
    buffer = io.BytesIO()
    Image.fromarray((68 + 120 * checks + noise).astype(np.uint8)).save(buffer, "JPEG", quality=98)
    whole, made = tf.constant([1, 1, 0, 0, 1], tf.float32), {}
    for antialias in (True, False):
        recipe = IMAGENETTE.replace(antialias=antialias)
        content = tf.constant(buffer.getvalue())
        image = crop.preprocess_for_train(content, whole, recipe.crop, recipe.preprocessing, 16).numpy()
        made[antialias] = np.abs(image - (68 + 120 * checks[4::8, 4::8])).mean()
    assert made[True] < 0.4 * made[False]


def test_a_broken_jpeg_raises():
    with pytest.raises(tf.errors.InvalidArgumentError):
        crop.preprocess_for_eval(tf.constant(b"not a jpeg"), Recipe())
