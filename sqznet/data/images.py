"""Whatever bytes a photograph comes in, to a JPEG that TensorFlow, LiteRT users and browsers all decode alike.

File names are never trusted: the content decides. An image that cannot be used raises `Reject` with the reason.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

JPEG_QUALITY = 95  # for what has to be re-encoded
SHRUNK_QUALITY = 90  # for what is shrunk, too: a fifth fewer bytes, read sooner; BUILD_NOTES.md has what it costs
MAX_PIXELS = 100_000_000  # 100 megapixels: above any camera, below what exhausts a worker's memory
EXIF_ORIENTATION = 0x0112
# Named, so that no decoder is reached that starts other programs (EPS does) or was never meant for photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")


class Reject(Exception):
    """This image cannot be used; the text says why."""


@dataclass(frozen=True)
class Encoded:
    content: bytes  # a JPEG, or pixels: RGB, a byte each, row by row
    height: int  # pixels
    width: int  # pixels


def to_jpeg(content: bytes, *, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> Encoded:
    """Checks an encoded image, and re-encodes it where it must be.

    An upright RGB or greyscale JPEG keeps its bytes; of these only the header is looked at, and whether all of it can
    be decoded is for who decodes it. Everything else (PNG, WebP, CMYK, 16 bits, transparency, which goes onto white, a
    rotation noted in EXIF) becomes an upright RGB JPEG.

    Args:
        content: the encoded image.
        max_pixels: larger images are rejected by their header, before they are decoded.
        short_side: shrink images whose short side is longer than this, in pixels; None leaves sizes alone.

    Raises:
        Reject: not an image or too large; broken or cut short, if it is re-encoded.
    """
    with _decoding(content, max_pixels) as image:
        shrinks = short_side is not None and min(image.size) > short_side
        if image.format == "JPEG" and image.mode in ("RGB", "L") and _is_upright(image) and not shrinks:
            return Encoded(content, image.height, image.width)
        rgb = _shrunk(_to_rgb(ImageOps.exif_transpose(image)), short_side)
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=SHRUNK_QUALITY if shrinks else JPEG_QUALITY)
    return Encoded(buffer.getvalue(), rgb.height, rgb.width)


def to_pixels(content: bytes, *, max_pixels: int = MAX_PIXELS, short_side: int | None = None) -> np.ndarray:
    """An encoded image, decoded: uint8 RGB, (height, width, 3), upright.

    Args:
        max_pixels, short_side: as of `to_jpeg`.

    Raises:
        Reject: not an image, broken, cut short, or too large.
    """
    with _decoding(content, max_pixels) as image:
        return np.asarray(_shrunk(_to_rgb(ImageOps.exif_transpose(image)), short_side))


@contextlib.contextmanager
def _decoding(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image, of which only the header is read yet; rejects it for what goes wrong while it is used."""
    if not content:
        raise Reject("empty file")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata; the limit below decides (Pillow's own is 179 megapixels).
            warnings.simplefilter("ignore")
            Image.init()  # Pillow loads its decoders lazily, and trips over a named one that is not loaded yet
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > max_pixels:
                raise Reject(f"{image.width}x{image.height} pixels, more than the limit of {max_pixels} pixels")
            yield image
    except UnidentifiedImageError:
        raise Reject(f"not an image (starts with {content[:8]!r})") from None
    except Image.DecompressionBombError as error:
        raise Reject(str(error)) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on broken data
        raise Reject(f"broken: {error}") from None


def _shrunk(image: Image.Image, short_side: int | None) -> Image.Image:
    if short_side is None or min(image.size) <= short_side:
        return image
    scale = short_side / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def _is_upright(image: Image.Image) -> bool:
    return image.getexif().get(EXIF_ORIENTATION, 1) == 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")
