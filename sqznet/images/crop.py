"""Scales and crops photographs in TensorFlow: one photograph becomes the input square of the network.

Training, evaluation, calibration and the checks of an export share these functions. Each function takes one image. The
image is a JPEG as a scalar string, or pixels as uint8 RGB, 0..255, (height, width, 3). Boxes are (top, left, height,
width) in pixels of the photograph. A JPEG is decoded only inside the box.
"""

from __future__ import annotations

import functools
import math

import tensorflow as tf

from sqznet.images.preprocessing import CORNER, Preprocessing

ASPECT_RATIOS = (3 / 4, 4 / 3)  # of resized crops (Szegedy et al. 2014, arXiv 1409.4842, section 6)
# Up to this size a JPEG is decoded with the accurate inverse DCT (mean error 0.4 of 255), which keeps single pixels.
# TensorFlow's default, the fast DCT, has an error of about 2 levels there and less in larger photographs.
_SMALL_PIXELS = 64 * 64
_RATIOS = (1, 2, 4, 8)  # by which a JPEG decoder scales down at no cost


def draw(seed: tf.Tensor, count: int, min_area: float) -> tf.Tensor:
    """Draws the random numbers of `count` training crops in one operation. Many small operations would be slow.

    Args:
        seed: int64, (2,). The same seed gives the same numbers.
        min_area: smallest area of a resized crop, as a fraction of the photograph's, above 0 to 1.

    Returns:
        float32, (count, 5). The first two numbers are height and width of a resized crop, as fractions of the square
        root of the photograph's area. The next two numbers are the positions of the crop's top and left edge, in 0..1.
        If the last number, in 0..1, is below 0.5, the crop is mirrored.
    """
    area, aspect, *rest = tf.unstack(tf.random.stateless_uniform([5, count], seed))
    return tf.stack([*resized_crop(area, aspect, min_area), *rest], axis=1)


def preprocess_for_train(
    photograph: tf.Tensor, draws: tf.Tensor, crop: str, preprocessing: Preprocessing, size: tf.Tensor | int
) -> tf.Tensor:
    """Cuts a random crop, and mirrors it with a probability of one half.

    Bilinear interpolation is antialiased in a faster way than in evaluation. The crop is halved as long as it stays at
    least as large as the result. If possible, the JPEG decoder halves it. Then the crop is averaged over areas.

    Args:
        photograph: a JPEG or pixels.
        draws: one row of the result of `draw`.
        crop: "resized" (a region of random area and aspect ratio) or "window" (a region as large as in evaluation).
        preprocessing: the interpolation, and the size of a window.
        size: side of the result in pixels.

    Returns:
        uint8, (size, size, 3).
    """
    sides = tf.cast(_shape(photograph), tf.float32)
    if crop == "resized":
        box = tf.clip_by_value(tf.round(draws[:2] * tf.sqrt(tf.reduce_prod(sides))), 1, sides)
    else:
        box = _window(sides, preprocessing)
    corner = tf.floor(draws[2:4] * (sides - box + 1))
    box = tf.cast(tf.concat([corner, box], 0), tf.int32)
    interpolation, antialias = preprocessing.interpolation, preprocessing.antialias
    if interpolation == "bilinear":
        pixels = _halved(photograph, box, size) if antialias else tf.cast(_cut(photograph, box), tf.float32)
        image = _scale(pixels, size, antialias)
    else:
        image = _resize(_cut(photograph, box), size, interpolation, antialias)
    return tf.cond(draws[4] < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)


def preprocess_for_eval(photograph: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Cuts the central crop.

    The result equals two steps: scaling the short side (or both sides, if squashed) to `resize_to`, then cutting the
    central square of `image_size`. There is one difference: the box is rounded to whole pixels of the photograph.

    Args:
        photograph: a JPEG or pixels.

    Returns:
        uint8, (image_size, image_size, 3).
    """
    shape = _shape(photograph)
    box = tf.cast(_window(tf.cast(shape, tf.float32), preprocessing), tf.int32)
    pixels = _cut(photograph, tf.concat([(shape - box) // 2, box], 0))
    return _resize(pixels, preprocessing.image_size, preprocessing.interpolation, preprocessing.antialias)


def resized_crop(area: tf.Tensor, aspect: tf.Tensor, min_area: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns height and width of random regions, divided by the square root of the photograph's area.

    The area is uniform in min_area..1 of the photograph's area. The aspect ratio is log-uniform in ASPECT_RATIOS
    (Szegedy et al. 2014, section 6). A side may be longer than the side of the photograph.

    Args:
        area, aspect: uniform in 0..1, of any shape.
    """
    low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
    area = min_area + area * (1 - min_area)
    aspect = tf.exp(low + aspect * (high - low))
    return tf.sqrt(area / aspect), tf.sqrt(area * aspect)


def whole(photograph: tf.Tensor) -> tf.Tensor:
    """Decodes the whole photograph to pixels: uint8, (height, width, 3)."""
    return _cut(photograph, tf.concat([[0, 0], _shape(photograph)], 0))


def _shape(photograph: tf.Tensor) -> tf.Tensor:
    """Returns [height, width], int32. If the photograph is a JPEG, this function reads only the header."""
    return (tf.io.extract_jpeg_shape(photograph) if photograph.dtype == tf.string else tf.shape(photograph))[:2]


def _window(sides: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Returns [height, width] of the region that is scaled to the input, in pixels of the photograph, float32.

    Args:
        sides: [height, width] of the photograph, float32.
    """
    if preprocessing.resize != "squash":
        sides = tf.fill([2], tf.reduce_min(sides))
    return tf.clip_by_value(tf.round(sides * (preprocessing.image_size / preprocessing.resize_to)), 1, sides)


def _cut(photograph: tf.Tensor, box: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    """Returns the pixels in a box of the photograph, scaled down by `ratio` (1, 2, 4 or 8).

    Returns:
        uint8. float32 if `photograph` contains pixels and these were averaged.
    """
    if photograph.dtype == tf.string:
        decode = functools.partial(tf.image.decode_and_crop_jpeg, photograph, box, channels=3, ratio=ratio)
        is_small = tf.reduce_prod(_shape(photograph)) <= _SMALL_PIXELS
        return tf.cond(is_small, lambda: decode(dct_method="INTEGER_ACCURATE"), decode)
    top, left, height, width = tf.unstack(box * ratio)
    pixels = photograph[top : top + height, left : left + width]
    if ratio == 1:
        return pixels
    return tf.nn.avg_pool2d(tf.cast(pixels, tf.float32)[tf.newaxis], ratio, ratio, "VALID")[0]


def _halved(photograph: tf.Tensor, box: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """Returns the pixels in `box`, float32. Halves both sides up to three times while they stay at least `size`."""

    def cut(ratio: int) -> tf.Tensor:
        return tf.cast(_cut(photograph, box // ratio, ratio), tf.float32)

    least = tf.reduce_min(box[2:])
    halvings = sum(tf.cast(least >= ratio * size, tf.int32) for ratio in _RATIOS[1:])
    return tf.switch_case(halvings, [functools.partial(cut, ratio) for ratio in _RATIOS])


def _scale(pixels: tf.Tensor, size: tf.Tensor | int, antialias: bool) -> tf.Tensor:
    """Scales float pixels to uint8, (size, size, 3), bilinear.

    Antialiasing averages over areas when it scales down. This takes as long as the interpolation between four
    neighbours. Interpolation alone skips pixels. This lost two points of accuracy at 64 px
    (docs/design/09-training-crops.md).
    """
    pixels = pixels[tf.newaxis] + 0.5  # the cast truncates, so this rounds

    def average_areas() -> tf.Tensor:
        return tf.raw_ops.ResizeArea(images=pixels, size=[size, size])

    def interpolate() -> tf.Tensor:
        return tf.raw_ops.ResizeBilinear(images=pixels, size=[size, size], half_pixel_centers=True)

    if not antialias:
        return tf.cast(interpolate()[0], tf.uint8)
    is_larger = tf.reduce_min(tf.shape(pixels)[1:3]) >= size
    return tf.cast(tf.cond(is_larger, average_areas, interpolate)[0], tf.uint8)


def _resize(pixels: tf.Tensor, size: tf.Tensor | int, interpolation: str, antialias: bool) -> tf.Tensor:
    if interpolation == CORNER:  # the default of this operator, which TensorFlow 1 used
        resized = tf.raw_ops.ResizeBilinear(images=pixels[tf.newaxis], size=[size, size])[0]
    else:
        resized = tf.image.resize(pixels, [size, size], interpolation, antialias=antialias)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
