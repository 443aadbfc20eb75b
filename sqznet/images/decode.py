"""Decodes a photograph in any format to upright 8-bit sRGB pixels, or to a JPEG with the same pixels in every decoder.

The content of a file determines the format. The name of the file does not matter. A photograph that cannot be used
raises `Reject` with the reason. docs/resize.md lists the rules for the choice of the picture, for colours and for
transparency.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from sqznet.core.errors import Reject
from sqznet.images import colour, signatures, tiff

JPEG_QUALITY = 95  # of re-encoded images
SHRUNK_QUALITY = 90  # of images that are shrunk as well: a fifth fewer bytes
SMALL_QUALITY = 100  # of small pictures, in which single pixels matter
SMALL_PIXELS = 128 * 128
MAX_JPEG_SIDE = 65_500  # libjpeg's limit
MAX_PIXELS = 100_000_000  # 100 megapixels: more than cameras have, and small enough for a worker's memory
EXIF_ORIENTATION = 0x0112
# A closed list: other decoders of Pillow start other programs (EPS does) or are not for photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")

_TRANSPOSES = {  # by the orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Frame headers of the JPEGs that every decoder reads: baseline, extended and progressive, with Huffman codes. Other
# JPEGs are lossless, arithmetic or hierarchical.
_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_BITS = (8, 10, 12, 14, 16, 24, 32)  # a channel, as sensors and scanners write them into 16 and 32 bits
_SIGNED_BITS = (15, 31)  # if one of 16 or 32 is the sign
_DARK_LEVELS = 64  # of 256: if all pixels of more than 8 bits are darker, the assumed white level is wrong


@dataclass(frozen=True)
class Encoded:
    content: bytes  # a JPEG, or pixels: RGB, a byte each, row by row
    height: int  # pixels
    width: int  # pixels
    colours: str = colour.SRGB  # or colour.CONVERTED, or colour.BROKEN


def to_jpeg(content: bytes, *, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> Encoded:
    """Checks an encoded image, and re-encodes it if necessary.

    An upright RGB or greyscale JPEG in sRGB keeps its bytes. This function reads only the header of such a JPEG, so the
    caller has to check whether the whole image can be decoded. Every other image becomes an upright RGB JPEG in sRGB.
    Examples are PNG, WebP, CMYK, 16 bits, transparency, other colours, and a rotation in EXIF.

    Args:
        content: the encoded image.
        max_pixels: larger images are rejected by their header, before they are decoded.
        short_side: largest short side in pixels. Larger images are shrunk to this side. None keeps all sizes.

    Raises:
        Reject: the content is not an image, or the image is too large. A re-encoded image is also rejected if it is
            broken or truncated.
    """
    with _opened(content, max_pixels) as (image, orientation):
        shrinks = short_side is not None and min(image.size) > short_side
        if not shrinks and _is_plain_jpeg(image, content) and _orientation(image) == 1:
            colours = colour.kind(_profile(image), image.mode)
            if colours != colour.CONVERTED:
                return Encoded(content, image.height, image.width, colours)
        is_subsampled = JpegImagePlugin.get_sampling(image) == 2  # 4:2:0, one colour for 2 x 2 pixels
        rgb, colours = _upright_rgb(image, orientation)
        rgb = _shrunk(rgb, short_side)
        if max(rgb.size) > MAX_JPEG_SIDE:
            raise Reject(f"{rgb.width}x{rgb.height} pixels; a JPEG has sides of {MAX_JPEG_SIDE} at most")
        if shrinks:
            options = {"quality": SHRUNK_QUALITY, "subsampling": 2}
        elif rgb.width * rgb.height <= SMALL_PIXELS:
            options = {"quality": SMALL_QUALITY, "subsampling": 0}
        else:
            options = {"quality": JPEG_QUALITY, "subsampling": 2 if is_subsampled else 0}
        buffer = io.BytesIO()
        rgb.save(buffer, "JPEG", **options)
    return Encoded(buffer.getvalue(), rgb.height, rgb.width, colours)


def to_pixels(content: bytes, *, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> np.ndarray:
    """Decodes an encoded image to upright sRGB pixels: uint8, (height, width, 3).

    Args:
        max_pixels, short_side: as for `to_jpeg`.

    Raises:
        Reject: the content is not an image, or the image is broken, truncated or too large.
    """
    return decode(content, max_pixels=max_pixels, short_side=short_side)[0]


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> tuple[np.ndarray, str]:
    """Returns the pixels of `to_pixels`, and the colour conversion: colour.SRGB, CONVERTED or BROKEN."""
    with _opened(content, max_pixels) as (image, orientation):
        rgb, colours = _upright_rgb(image, orientation)
    return np.asarray(_shrunk(rgb, short_side)), colours


def of_image(image: Image.Image) -> np.ndarray:
    """Converts an opened Pillow image by the rules of `to_pixels` to upright sRGB pixels: uint8, (height, width, 3).

    Raises:
        Reject: the image is broken or truncated.
    """
    try:
        return np.asarray(_upright_rgb(image, None)[0])
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Reject(f"broken: {error}") from None


@contextlib.contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[tuple[Image.Image, int | None]]:
    """Opens an image and reads its header only. Also yields the orientation of a TIFF file.

    Any error while the image is used becomes a `Reject`.
    """
    if not content:
        raise Reject("empty file")
    orientation = None
    try:
        if tiff.is_tiff(content):
            content, orientation = tiff.main_picture(content)
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata. max_pixels is below Pillow's own limit of 179 megapixels.
            warnings.simplefilter("ignore")
            Image.init()  # Pillow loads its decoders lazily, and fails for a named decoder that is not loaded yet
            formats = (*FORMATS, "HEIF") if signatures.is_heif(content) and signatures.reads_heif() else FORMATS
            image: Image.Image = Image.open(io.BytesIO(content), formats=formats)
            if image.width * image.height > max_pixels:
                raise Reject(f"{image.width}x{image.height} pixels, more than the limit of {max_pixels} pixels")
            yield image, orientation
    except (Reject, MemoryError):
        raise
    except UnidentifiedImageError:
        raise signatures.refused(content) from None
    except Image.DecompressionBombError as error:
        raise Reject(str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on broken data
        raise Reject(f"broken: {error}") from None
    except Exception as error:  # no file may end a build
        raise Reject(f"broken: {type(error).__name__}: {error}") from None


def _orientation(image: Image.Image) -> int:
    """Returns the orientation in EXIF, 1 to 8. If there is none, or the block is damaged, returns 1."""
    block = image.info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        value: Any = exif.get(EXIF_ORIENTATION)
    except Exception:  # Pillow raises anything on damaged blocks
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSES else 1


def _is_plain_jpeg(image: Image.Image, content: bytes) -> bool:
    """Checks whether every JPEG decoder gives the same pixels as Pillow.

    Pillow reads more kinds of JPEG than other decoders.
    """
    # MPO is a JPEG with more pictures appended, such as a depth map, which other decoders ignore.
    return image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L") and _frame(content) in _PLAIN_FRAMES


def _frame(jpeg: bytes) -> int:
    """Returns the marker of the frame header, 0xC0 to 0xCF, or 0 if there is none.

    The marker names the coding of the pixels.
    """
    at = 2
    while at + 4 <= len(jpeg):
        marker = jpeg[at + 1]
        if jpeg[at] != 0xFF or marker == 0xFF:  # stray or fill bytes, which decoders skip
            at += 1
        elif marker in _FRAMES:
            return marker
        elif marker <= 0x01 or 0xD0 <= marker <= 0xD9:  # without content
            at += 2
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return 0


def _shrunk(image: Image.Image, short_side: int | None) -> Image.Image:
    if short_side is None or min(image.size) <= short_side:
        return image
    scale = short_side / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def _upright_rgb(image: Image.Image, orientation: int | None) -> tuple[Image.Image, str]:
    """Converts an image to upright 8-bit sRGB. Transparent pixels become white. Also returns the colour conversion.

    Args:
        orientation: 1 to 8, or None if the orientation has to be read from the EXIF block.
    """
    is_16_bits = _has_16_bits(image)
    image.load()
    orientation = orientation or _orientation(image)  # after load(): the EXIF block of a PNG may follow the pixels
    profile = _profile(image)
    image, alpha = _split(image)
    if is_16_bits and any(0 < np.asarray(each).max() < _DARK_LEVELS for each in (image, alpha) if each is not None):
        raise Reject(
            "its pixels use the lowest quarter of their 16 bits only, so they seem to hold fewer bits than the file "
            "says: scale them to the full range"
        )
    rgb, colours = colour.to_srgb(image, profile)
    if alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    if orientation in _TRANSPOSES:
        rgb = rgb.transpose(_TRANSPOSES[orientation])
    return rgb, colours


def _has_16_bits(image: Image.Image) -> bool:
    """Checks whether an image has 16 bits of which Pillow keeps the upper 8. Pillow does this for images with colours.

    The image must not be loaded yet.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return False
    tiles = [tile[3] for tile in getattr(image, "tile", [])]
    if image.format == "PPM":  # the arguments of its tiles end with the largest value
        return any(isinstance(each, tuple) and isinstance(each[-1], int) and each[-1] > 255 for each in tiles)
    return any(";16" in str(each) for each in tiles)


def _profile(image: Image.Image) -> bytes | None:
    """Returns the ICC profile, or None if there is none.

    The result is empty if the parts of the profile cannot be joined.
    """
    return (image.info["icc_profile"] or b"") if "icc_profile" in image.info else None


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Splits an image into colours (8 bits, mode RGB, L, CMYK or LAB) and opacity (mode L, or None if it is opaque)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        signed = (_tiff_tag(image, TiffImagePlugin.SAMPLEFORMAT) or (1,))[0] == 2  # 1: unsigned, 3: floating point
        if image.mode == "I" and not signed:  # Pillow uses the same mode for 32 bits without a sign
            values = values.view(np.uint32)
        key = image.info.get("transparency")
        alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
        grey = _eight_bits(values, signed)
        # In TIFF files of document scanners 0 may be white; Pillow inverts only 8 bits.
        is_inverted = _tiff_tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        return Image.fromarray(255 - grey if is_inverted else grey), alpha
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("LA", "La"):
        return image.convert("LA").getchannel("L"), alpha
    if image.mode == "1":
        return image.convert("L"), alpha
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, alpha
    if image.mode in ("P", "PA", "RGBa"):
        return image.convert("RGBA").convert("RGB"), alpha
    return image.convert("RGB"), alpha


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)


def _eight_bits(values: np.ndarray, signed: bool) -> np.ndarray:
    """Converts grey values of more than 8 bits to uint8.

    For fractions up to 1, white is 1. For other values, white is the largest integer of the smallest usual bit depth
    that holds all values. The reason is that cameras and scanners write 10, 12 and 14 bits into 16, and the file does
    not state this reliably. If all values lie in the lowest quarter of that range, white is the largest value.

    Raises:
        Reject: a value is negative or not a number.
    """
    if not np.isfinite(values).all() or values.min() < 0:
        raise Reject("pixels that are negative or not numbers: scale them to 0 to 255, and save 8 bits")
    top = float(values.max())
    ladder = [2.0**bits - 1 for bits in sorted((*_BITS, *_SIGNED_BITS) if signed else _BITS)]
    if values.dtype.kind == "f":
        ladder = [1.0, *ladder]
    white = next((each for each in ladder if top <= each), top)
    if 0 < 255 * top < _DARK_LEVELS * white:
        white = top
    return np.rint(values.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
