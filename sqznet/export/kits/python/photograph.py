"""Computes the input of the network from a photograph. Needs NumPy and Pillow."""

import io

import numpy as np
from PIL import Image, ImageCms

TURNS = {  # by the EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
KERNELS = {
    "bilinear": lambda t: np.maximum(1 - t, 0),
    "bicubic": lambda t: np.select([t < 1, t < 2], [(1.5 * t - 2.5) * t**2 + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2]),
}


def read(path, preprocessing):
    """Reads a photograph as uint8 (image_size, image_size, 3).

    `preprocessing` is that entry of manifest.json, or of sqznet.json in a model file.
    """
    return prepare(decode(path), preprocessing)


def decode(path):
    """Decodes a photograph to upright 8-bit sRGB pixels on white, uint8 (height, width, 3)."""
    image: Image.Image = Image.open(path)
    image.load()
    turn = TURNS.get(image.getexif().get(0x0112, 1))
    profile = io.BytesIO(image.info.get("icc_profile", b""))
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode.startswith("I"):  # 16 bits; convert() would clip them at 255
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode not in ("RGB", "CMYK"):
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    try:
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), intent, "RGB") or image
    except ImageCms.PyCMSError:  # no profile, or a broken one
        image = image.convert("RGB")
    if alpha:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.asarray(image if turn is None else image.transpose(turn))


def prepare(photograph, preprocessing):
    """Crops and scales upright pixels."""
    size, antialias = preprocessing["image_size"], preprocessing["antialias"]
    sides = np.array(photograph.shape[:2])
    part = {"squash": sides, "short": np.full(2, sides.min())}[preprocessing["resize"]]
    share = np.float32(size / preprocessing["resize_to"])
    height, width = np.clip(np.rint(part.astype(np.float32) * share).astype(int), 1, sides)
    top, left = (sides - (height, width)) // 2
    box = photograph[top : top + height, left : left + width].astype(np.float32)
    kernel = KERNELS[preprocessing["interpolation"]]
    rows, columns = (weights(side, size, kernel, antialias) for side in (height, width))
    square = np.tensordot(np.tensordot(rows, box, (1, 0)), columns, (1, 1))  # (size, 3, size)
    return np.rint(square).clip(0, 255).astype(np.uint8).swapaxes(1, 2)


def weights(side, size, kernel, antialias):
    """Returns the weight of each pixel of a side in each pixel of the result, float32 (size, side)."""
    scale = side / size
    places = (np.arange(size) + 0.5) * scale - 0.5
    counts = kernel(np.abs(np.arange(side) - places[:, None]) / (max(1, scale) if antialias else 1))
    return (counts / counts.sum(1, keepdims=True)).astype(np.float32)
