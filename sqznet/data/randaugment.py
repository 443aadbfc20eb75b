"""Applies RandAugment (Cubuk et al. 2019, arXiv 1909.13719): a few random operations of equal strength on a crop.

Images are uint8 RGB, 0..255. The operations and their ranges are those of AutoAugment (Cubuk et al. 2018, arXiv
1805.09501, table 6). A strength of `STRONGEST` reaches the limits of these ranges. Pixels from outside the image are
mid-grey.
"""

from __future__ import annotations

import tensorflow as tf

from sqznet.recipes import STRONGEST

OPERATIONS = 2  # an image; N in the paper, which found 2 best for ResNets on ImageNet (section 4.4)
DRAWS = 2 * OPERATIONS  # for each operation: which one, and its direction
_LUMA = (0.299, 0.587, 0.114)  # weights of R, G, B in a grey pixel (ITU-R BT.601)
_GREY = 128
_DEGREES, _SHEAR, _SHIFT, _ENHANCED = 30.0, 0.3, 0.45, 0.9  # the limits; shifts as a share of the side
_PI = 3.141592653589793


def randaugment(image: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Applies `OPERATIONS` operations to a crop.

    Args:
        image: uint8, (size, size, 3).
        draws: float32, (DRAWS,), 0 to below 1.
        strength: strength of each operation, above 0 to STRONGEST.
    """
    for which, direction in (tf.unstack(each) for each in tf.split(draws, OPERATIONS)):
        number = tf.cast(which * len(NAMES), tf.int32)
        sign = tf.where(direction < 0.5, -1.0, 1.0)
        image = apply(image, number, sign * strength / STRONGEST)
    return image


def apply(image: tf.Tensor, number: tf.Tensor | int, amount: tf.Tensor | float) -> tf.Tensor:
    """Applies the operation with this index in `NAMES`. The amount is -1 to 1, and its sign is the direction."""
    number, amount = tf.convert_to_tensor(number), tf.cast(amount, tf.float32)
    changed = tf.switch_case(number, [lambda each=each: each(image, amount) for each in _OPERATIONS.values()])
    return tf.ensure_shape(changed, image.shape)


def luma(image: tf.Tensor) -> tf.Tensor:
    """Converts an image to grey, float32 (..., 1)."""
    return tf.tensordot(tf.cast(image, tf.float32), tf.constant(_LUMA), 1)[..., None]


def to_uint8(pixels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)


def _auto_contrast(image, _amount):
    """Stretches each channel to 0..255."""
    pixels = tf.cast(image, tf.float32)
    low, high = tf.reduce_min(pixels, axis=[0, 1]), tf.reduce_max(pixels, axis=[0, 1])
    stretched = (pixels - low) * 255 / tf.maximum(high - low, 1)
    return to_uint8(tf.where(high > low, stretched, pixels))


def _equalize(image, _amount):
    """Equalizes the histogram of each channel."""

    def equalized(channel):
        counts = tf.math.bincount(tf.reshape(channel, [-1]), minlength=256, maxlength=256)
        below = tf.cumsum(counts, exclusive=True)
        step = (tf.size(channel) - counts[tf.reduce_max(channel)]) // 255  # as Pillow's
        levels = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
        return tf.where(step > 0, tf.gather(levels, channel), channel)

    channels = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    return tf.cast(tf.stack([equalized(each) for each in channels], axis=-1), tf.uint8)


def _posterize(image, amount):
    """Drops up to 4 bits of each channel."""
    dropped = tf.cast(tf.round(4 * tf.abs(amount)), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, dropped), dropped)


def _solarize(image, amount):
    """Inverts the levels above a threshold."""
    threshold = 256 * (1 - tf.abs(amount))
    return tf.where(tf.cast(image, tf.float32) >= threshold, 255 - image, image)


def _sharpness(image, amount):
    """Sharpens or blurs with a kernel of 3 x 3. The outermost pixels stay unchanged."""
    pixels = tf.cast(image, tf.float32)
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
    inner = tf.nn.depthwise_conv2d(pixels[None], kernel, [1, 1, 1, 1], "VALID")[0]
    rim = [[1, 1], [1, 1], [0, 0]]
    blurred = tf.where(tf.pad(tf.ones_like(inner), rim) > 0, tf.pad(inner, rim), pixels)
    return _blended(blurred, image, amount)


def _blended(other, image, amount):
    """Interpolates from `other` to the image, or extrapolates.

    The result is at 1 - _ENHANCED to 1 + _ENHANCED of the way.
    """
    return to_uint8(other + (1 + _ENHANCED * amount) * (tf.cast(image, tf.float32) - other))


def _rotate(image, amount):
    angle = amount * _DEGREES * _PI / 180
    cosine, sine = tf.cos(angle), tf.sin(angle)
    return _transformed(image, [[cosine, -sine], [sine, cosine]])


def _transformed(image, matrix=((1.0, 0.0), (0.0, 1.0)), shift=(0.0, 0.0)):
    """Transforms an image.

    Pixel (x, y), counted from the centre, comes from matrix (x, y) + shift. The shift is a share of the side.
    """
    side = tf.shape(image)[0]
    middle, matrix = (tf.cast(side, tf.float32) - 1) / 2, tf.convert_to_tensor(matrix)
    offset = middle - tf.reduce_sum(matrix, axis=1) * middle + tf.convert_to_tensor(shift) * tf.cast(side, tf.float32)
    (a, b), (c, d) = tf.unstack(matrix[0]), tf.unstack(matrix[1])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([a, b, offset[0], c, d, offset[1], 0.0, 0.0])[None],
        output_shape=tf.stack([side, side]),
        fill_value=float(_GREY),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]


_OPERATIONS = {
    "identity": lambda image, _: tf.identity(image),
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "solarize": _solarize,
    "brightness": lambda image, amount: _blended(tf.zeros_like(image, tf.float32), image, amount),
    "contrast": lambda image, amount: _blended(tf.reduce_mean(luma(image)), image, amount),
    "color": lambda image, amount: _blended(luma(image), image, amount),
    "sharpness": _sharpness,
    "rotate": _rotate,
    "shear_x": lambda image, amount: _transformed(image, [[1.0, amount * _SHEAR], [0.0, 1.0]]),
    "shear_y": lambda image, amount: _transformed(image, [[1.0, 0.0], [amount * _SHEAR, 1.0]]),
    "translate_x": lambda image, amount: _transformed(image, shift=[amount * _SHIFT, 0.0]),
    "translate_y": lambda image, amount: _transformed(image, shift=[0.0, amount * _SHIFT]),
}
NAMES = tuple(_OPERATIONS)
