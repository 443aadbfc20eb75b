"""One JPEG to the square of pixels the network sees. The only copy: training, evaluation and the proofs share it.

Every function takes one image. Pixels are uint8 RGB, 0..255, (height, width, 3); boxes are (top, left, height,
width) in pixels of the photograph. A region is cut out while the JPEG is decoded and resized once, so that what is
thrown away is never computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqznet.preprocessing import CORNER

if TYPE_CHECKING:
    import tensorflow as tf

    from sqznet.preprocessing import Preprocessing
    from sqznet.recipes import Recipe

ASPECT_RATIOS = (3 / 4, 4 / 3)  # of resized crops (Szegedy et al. 2014, arXiv 1409.4842, section 6)


def preprocess_for_train(jpeg: tf.Tensor, seed: tf.Tensor, recipe: Recipe, size: tf.Tensor | int) -> tf.Tensor:
    """A random crop, mirrored half of the time.

    Args:
        jpeg: scalar string.
        seed: int64, (2,); the same seed gives the same crop.
        recipe: its crop, min_crop_area and preprocessing.
        size: side of the result in pixels.

    Returns:
        uint8, (size, size, 3).
    """
    import tensorflow as tf

    draws = tf.random.stateless_uniform([5], seed)
    height, width = _shape(jpeg)
    if recipe.crop == "resized":
        box_height, box_width = resized_crop(height, width, draws[0], draws[1], recipe.min_crop_area)
    else:
        box_height, box_width = _window(height, width, recipe.preprocessing)
    top = tf.cast(draws[2] * tf.cast(height - box_height + 1, tf.float32), tf.int32)
    left = tf.cast(draws[3] * tf.cast(width - box_width + 1, tf.float32), tf.int32)
    image = _decode_box(jpeg, (top, left, box_height, box_width), size, recipe.interpolation, recipe.antialias)
    return tf.cond(draws[4] < 0.5, lambda: tf.reverse(image, axis=[1]), lambda: image)


def preprocess_for_eval(jpeg: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The centre of the photograph.

    Equals scaling the short side (or, squashed, both) to `resize_to` and cutting `image_size` out of the middle, up to
    the fraction of a pixel that rounding the box costs.

    Args:
        jpeg: scalar string.

    Returns:
        uint8, (image_size, image_size, 3).
    """
    height, width = _shape(jpeg)
    box_height, box_width = _window(height, width, preprocessing)
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return _decode_box(
        jpeg,
        (top, left, box_height, box_width),
        preprocessing.image_size,
        preprocessing.interpolation,
        preprocessing.antialias,
    )


def resized_crop(
    height: tf.Tensor, width: tf.Tensor, area_draw: tf.Tensor, aspect_draw: tf.Tensor, min_area: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width of a region of random area and aspect ratio, clipped to the image (int32, 1 or more).

    Area is uniform in min_area..1 of the image, aspect ratio log-uniform in ASPECT_RATIOS (Szegedy et al. 2014,
    section 6); the draws are uniform in 0..1.
    """
    import tensorflow as tf

    low, high = (tf.math.log(ratio) for ratio in ASPECT_RATIOS)
    aspect = tf.exp(low + aspect_draw * (high - low))
    pixels = (min_area + area_draw * (1 - min_area)) * tf.cast(height, tf.float32) * tf.cast(width, tf.float32)
    box_height = tf.cast(tf.round(tf.sqrt(pixels / aspect)), tf.int32)
    box_width = tf.cast(tf.round(tf.sqrt(pixels * aspect)), tf.int32)
    return tf.clip_by_value(box_height, 1, height), tf.clip_by_value(box_width, 1, width)


def _shape(jpeg: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(height, width), from the header."""
    import tensorflow as tf

    shape = tf.io.extract_jpeg_shape(jpeg)
    return shape[0], shape[1]


def _window(height: tf.Tensor, width: tf.Tensor, preprocessing: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width, in the photograph's pixels, of what becomes image_size pixels square once it is scaled."""
    import tensorflow as tf

    def part(side):
        share = preprocessing.image_size / preprocessing.resize_to
        return tf.clip_by_value(tf.cast(tf.round(tf.cast(side, tf.float32) * share), tf.int32), 1, side)

    if preprocessing.resize == "squash":
        return part(height), part(width)
    square = part(tf.minimum(height, width))
    return square, square


def _decode_box(
    jpeg: tf.Tensor, box: tuple[tf.Tensor, ...], size: tf.Tensor | int, interpolation: str, antialias: bool
) -> tf.Tensor:
    import tensorflow as tf

    pixels = tf.image.decode_and_crop_jpeg(jpeg, tf.stack(box), channels=3)
    if interpolation == CORNER:  # what this operator does by default, as TensorFlow 1 did
        resized = tf.raw_ops.ResizeBilinear(images=pixels[tf.newaxis], size=[size, size])[0]
    else:
        resized = tf.image.resize(pixels, [size, size], interpolation, antialias=antialias)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
