"""One photograph to the square of pixels the network sees. The only copy: training, evaluation and the proofs share it.

Every function takes one image: a JPEG, as a scalar string, or its pixels, uint8 RGB, 0..255, (height, width, 3). Boxes
are (top, left, height, width) in pixels of the photograph. A region is cut out while the JPEG is decoded and resized
once, so that what is thrown away is never computed.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from sqznet.images.preprocessing import CORNER

if TYPE_CHECKING:
    import tensorflow as tf

    from sqznet.images.preprocessing import Preprocessing

ASPECT_RATIOS = (3 / 4, 4 / 3)  # of resized crops (Szegedy et al. 2014, arXiv 1409.4842, section 6)
# Photographs as small as these are as fine as their pixels. TensorFlow's default, the fast inverse DCT, is off by some
# 2 levels of 255 there, the accurate one by 0.4. Larger ones differ by less, and are decoded as for all published
# figures.
_SMALL_PIXELS = 64 * 64
_RATIOS = (1, 2, 4, 8)  # at which a JPEG decoder scales down at no cost


def draw(seed: tf.Tensor, count: int, min_area: float) -> tf.Tensor:
    """What is random in `count` training crops, drawn at once because many small operations take as long as decoding.

    Args:
        seed: int64, (2,); the same seed gives the same draws.
        min_area: smallest area of a resized crop, as a share of the photograph, above 0 to 1.

    Returns:
        float32, (count, 5): height and width of a resized crop as fractions of the square root of the photograph's
        area, the place of its top and left edge in 0..1, and one number in 0..1 that mirrors it if below a half.
    """
    import tensorflow as tf

    area, aspect, *rest = tf.unstack(tf.random.stateless_uniform([5, count], seed))
    shares = resized_crop(area, aspect, min_area)
    return tf.stack([*shares, *rest], axis=1)


def preprocess_for_train(
    photograph: tf.Tensor, draws: tf.Tensor, crop: str, preprocessing: Preprocessing, size: tf.Tensor | int
) -> tf.Tensor:
    """A random crop, mirrored half of the time.

    With bilinear interpolation, antialiasing is done in a cheaper way than in evaluation: the crop is halved, by the
    decoder where there is one, as long as it stays as large as the result, and then averaged over areas.

    Args:
        photograph: a JPEG or pixels.
        draws: one row of what `draw` gives.
        crop: "resized", a region of random area and aspect ratio, or "window", one of the size that evaluation cuts.
        preprocessing: the interpolation, and the size of a window.
        size: side of the result in pixels.

    Returns:
        uint8, (size, size, 3).
    """
    import tensorflow as tf

    shape = _shape(photograph)
    sides = tf.cast(shape, tf.float32)
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
    """The centre of the photograph.

    Equals scaling the short side (or, squashed, both) to `resize_to` and cutting `image_size` out of the middle, up to
    the fraction of a pixel that rounding the box costs.

    Args:
        photograph: a JPEG or pixels.

    Returns:
        uint8, (image_size, image_size, 3).
    """
    import tensorflow as tf

    shape = _shape(photograph)
    box = tf.cast(_window(tf.cast(shape, tf.float32), preprocessing), tf.int32)
    pixels = _cut(photograph, tf.concat([(shape - box) // 2, box], 0))
    return _resize(pixels, preprocessing.image_size, preprocessing.interpolation, preprocessing.antialias)


def resized_crop(area: tf.Tensor, aspect: tf.Tensor, min_area: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of regions of random area and aspect ratio, over the square root of the photograph's area.

    Area is uniform in min_area..1 of the photograph, aspect ratio log-uniform in ASPECT_RATIOS (Szegedy et al. 2014,
    section 6); both are drawn uniformly in 0..1, and of any shape. A side may come out longer than the photograph's.
    """
    import tensorflow as tf

    low, high = (math.log(ratio) for ratio in ASPECT_RATIOS)
    area = min_area + area * (1 - min_area)
    aspect = tf.exp(low + aspect * (high - low))
    return tf.sqrt(area / aspect), tf.sqrt(area * aspect)


def whole(photograph: tf.Tensor) -> tf.Tensor:
    """All its pixels."""
    import tensorflow as tf

    return _cut(photograph, tf.concat([[0, 0], _shape(photograph)], 0))


def _shape(photograph: tf.Tensor) -> tf.Tensor:
    """[height, width], int32; of a JPEG from its header."""
    import tensorflow as tf

    return (tf.io.extract_jpeg_shape(photograph) if photograph.dtype == tf.string else tf.shape(photograph))[:2]


def _window(sides: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """[height, width], in the photograph's pixels, of what becomes image_size pixels square once it is scaled.

    Args:
        sides: [height, width] of the photograph, float32; the result is of that type, too.
    """
    import tensorflow as tf

    if preprocessing.resize != "squash":
        sides = tf.fill([2], tf.reduce_min(sides))
    return tf.clip_by_value(tf.round(sides * (preprocessing.image_size / preprocessing.resize_to)), 1, sides)


def _cut(photograph: tf.Tensor, box: tf.Tensor, ratio: int = 1) -> tf.Tensor:
    """The pixels in `box`, which is in those of the photograph scaled down to 1/`ratio` (1, 2, 4 or 8).

    uint8, or float32 where there was something to average.
    """
    import tensorflow as tf

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
    """The pixels in `box`, float32, halved in number each way up to three times, while `size` or more are left."""
    import tensorflow as tf

    def cut(ratio: int) -> tf.Tensor:
        return tf.cast(_cut(photograph, box // ratio, ratio), tf.float32)

    least = tf.reduce_min(box[2:])
    halvings = sum(tf.cast(least >= ratio * size, tf.int32) for ratio in _RATIOS[1:])
    return tf.switch_case(halvings, [functools.partial(cut, ratio) for ratio in _RATIOS])


def _scale(pixels: tf.Tensor, size: tf.Tensor | int, antialias: bool) -> tf.Tensor:
    """Float pixels to uint8, (size, size, 3).

    Antialiased, averages over areas where there are more pixels than are wanted, which takes no longer than averages of
    four neighbours; these alone passed over pixels, and cost two points of accuracy at 64 px (BUILD_NOTES.md).
    """
    import tensorflow as tf

    pixels = pixels[tf.newaxis] + 0.5  # so that cutting off the fraction rounds

    def over_areas() -> tf.Tensor:
        return tf.raw_ops.ResizeArea(images=pixels, size=[size, size])

    def of_neighbours() -> tf.Tensor:
        return tf.raw_ops.ResizeBilinear(images=pixels, size=[size, size], half_pixel_centers=True)

    if not antialias:
        return tf.cast(of_neighbours()[0], tf.uint8)
    is_larger = tf.reduce_min(tf.shape(pixels)[1:3]) >= size
    return tf.cast(tf.cond(is_larger, over_areas, of_neighbours)[0], tf.uint8)


def _resize(pixels: tf.Tensor, size: tf.Tensor | int, interpolation: str, antialias: bool) -> tf.Tensor:
    import tensorflow as tf

    if interpolation == CORNER:  # what this operator does by default, as TensorFlow 1 did
        resized = tf.raw_ops.ResizeBilinear(images=pixels[tf.newaxis], size=[size, size])[0]
    else:
        resized = tf.image.resize(pixels, [size, size], interpolation, antialias=antialias)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
