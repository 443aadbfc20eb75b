"""Augmentation of training crops: RandAugment, colour jitter, random erasing, mixup and CutMix.

Images are uint8 RGB, 0..255. All randomness comes from the draws. Therefore the same draws give the same image.
"""

from __future__ import annotations

import tensorflow as tf

from sqznet.data import randaugment
from sqznet.data.randaugment import luma, to_uint8
from sqznet.recipes import Recipe

# Shares of the crop's area, and aspect ratios (Zhong et al. 2017, arXiv 1708.04896, section 4.1).
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECTS = (0.3, 3.3)


def draw(seed: tf.Tensor, count: int, recipe: Recipe) -> tf.Tensor:
    """Draws the random numbers for the augmentation of `count` crops.

    Args:
        seed: int64, (2,). The same seed gives the same draws.
        recipe: the fields mixup and cutmix set the distribution of the shares.

    Returns:
        float32, (count, 12 + randaugment.DRAWS), in 0..1. The first three numbers are for colours, the next five for
        erasing. The next four are for mixing: the share of the image's own pixels, whether the image is cut (1) or
        blended (0), and top and left of the box that is cut. The remaining numbers are for RandAugment.
    """
    uniform = tf.random.stateless_uniform([count, 11], seed)
    cuts = tf.cast(uniform[:, 8] < _cut_share(recipe), tf.float32)
    alphas = tf.where(cuts > 0, recipe.cutmix or 1.0, recipe.mixup or 1.0)
    one, other = tf.unstack(tf.random.stateless_gamma([2, count], seed + 1, alphas))
    shares = tf.math.divide_no_nan(one, one + other)
    operations = tf.random.stateless_uniform([count, randaugment.DRAWS], seed + 2)
    return tf.concat([uniform[:, :8], tf.stack([shares, cuts], axis=1), uniform[:, 9:], operations], axis=1)


def _cut_share(recipe: Recipe) -> float:
    """Returns the share of the mixed images that CutMix changes. Mixup changes the other images."""
    return 0.5 if recipe.mixup and recipe.cutmix else float(recipe.cutmix > 0)


def augment(image: tf.Tensor, draws: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """Applies RandAugment, colour jitter and random erasing to a crop, as the recipe sets them.

    Args:
        image: uint8, (size, size, 3).
        draws: one row from `draw`.
    """
    if recipe.randaugment:
        image = randaugment.randaugment(image, draws[12:], recipe.randaugment)
    if recipe.jitter:
        image = jitter(image, draws[:3], recipe.jitter)
    if recipe.erasing:
        image = erase(image, draws[3:8], recipe.erasing)
    return image


def jitter(image: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Multiplies brightness, contrast and saturation in this order, each by 1 - strength to 1 + strength."""
    brightness, contrast, saturation = tf.unstack(1 + strength * (2 * draws - 1))
    pixels = tf.cast(image, tf.float32) * brightness
    grey = luma(pixels)
    mean = tf.reduce_mean(grey)
    # Contrast about the mean grey, then saturation about each pixel's own grey, in one expression.
    grey = mean + contrast * (grey - mean)
    pixels = grey + saturation * (mean + contrast * (pixels - mean) - grey)
    return to_uint8(pixels)


def erase(image: tf.Tensor, draws: tf.Tensor, probability: float) -> tf.Tensor:
    """Fills a rectangle with the crop's mean colour, with the given probability (random erasing, Zhong et al. 2017)."""
    size = tf.cast(tf.shape(image)[0], tf.float32)
    area = ERASED_AREA[0] + draws[1] * (ERASED_AREA[1] - ERASED_AREA[0])
    low, high = (tf.math.log(each) for each in ERASED_ASPECTS)
    aspect = tf.exp(low + draws[2] * (high - low))
    height, width = (tf.minimum(tf.sqrt(each), 1.0) * size for each in (area / aspect, area * aspect))
    box = _box(size, draws[3] * (size - height), draws[4] * (size - width), height, width)
    mean = tf.cast(tf.round(tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])), tf.uint8)
    return tf.where(box & (draws[0] < probability), mean, image)


def _box(size: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns a mask of the pixels inside a box: bool, (..., size, size, 1). The box's values have the shape (...)."""
    along = tf.range(size)
    rows, columns = (
        (along >= tf.floor(first)[..., tf.newaxis]) & (along < tf.floor(first + length)[..., tf.newaxis])
        for first, length in ((top, height), (left, width))
    )
    return (rows[..., :, tf.newaxis] & columns[..., tf.newaxis, :])[..., tf.newaxis]


def mix(images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mixes each image with its neighbour: blends both (mixup, Zhang et al. 2017, arXiv 1710.09412), or replaces a box
    by the neighbour's pixels (CutMix, Yun et al. 2019, arXiv 1905.04899).

    Neighbours are the first and second image, the third and fourth, and so on. Therefore the result does not depend on
    the number of replicas. Corrupt records have the label -1 and are not mixed.

    Args:
        images: uint8, (batch, size, size, 3).
        labels: int64, (batch,).
        draws: rows from `draw`, (batch, 12 or more).

    Returns:
        images, labels, the neighbours' labels, int64, and the share of each image's own label, float32, all (batch,).
    """
    count, size = tf.shape(labels)[0], tf.cast(tf.shape(images)[1], tf.float32)
    neighbours = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
    others, other_images = tf.gather(labels, neighbours), tf.gather(images, neighbours)
    usable = (labels >= 0) & (others >= 0)
    shares, cuts, tops, lefts = tf.unstack(draws[:, 8:12], axis=1)
    shares = tf.where(usable, shares, 1.0)
    side = tf.floor(tf.sqrt(1 - shares) * size)
    box = _box(size, tops * (size - side), lefts * (size - side), side, side) & (cuts > 0)[:, None, None, None]
    blended = tf.where(cuts > 0, 1.0, shares)[:, None, None, None]
    pixels = blended * tf.cast(images, tf.float32) + (1 - blended) * tf.cast(other_images, tf.float32)
    mixed = tf.where(box, other_images, tf.cast(tf.round(pixels), tf.uint8))
    shares = tf.where(cuts > 0, 1 - (side / size) ** 2, shares)
    return mixed, labels, others, shares
