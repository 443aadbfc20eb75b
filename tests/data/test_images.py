from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from sqznet.data import images
from sqznet.data.images import Reject, to_jpeg

RAMP = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_upright_jpeg_keeps_its_bytes(mode):
    content = encode(Image.fromarray(RAMP).convert(mode), "JPEG")
    made = to_jpeg(content)
    assert made.content == content
    assert (made.height, made.width) == (40, 60)


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (Image.fromarray(RAMP), "PNG"),
        (Image.fromarray(RAMP), "WEBP"),
        (Image.fromarray(RAMP).convert("CMYK"), "JPEG"),
        (Image.fromarray(RAMP).convert("P"), "PNG"),
        (Image.fromarray(RAMP).convert("RGBA"), "PNG"),
    ],
    ids=["png", "webp", "cmyk", "palette", "alpha"],
)
def test_everything_else_becomes_an_rgb_jpeg_that_looks_the_same(image, format):
    options = {"lossless": True} if format == "WEBP" else {}
    made = to_jpeg(encode(image, format, **options))
    assert np.abs(decode(made.content) - RAMP.astype(int)).mean() < 12


def test_16_bits_are_scaled_not_clipped():
    grey = (np.arange(100 * 100).reshape(100, 100) * 6.5).astype(np.uint16)
    made = to_jpeg(encode(Image.fromarray(grey), "PNG"))
    assert np.abs(decode(made.content)[..., 0] - (grey >> 8)).max() < 6


def test_transparency_goes_onto_white():
    made = to_jpeg(encode(Image.new("RGBA", (16, 16), (255, 0, 0, 0)), "PNG"))
    assert decode(made.content).min() > 250


def test_an_exif_rotation_is_applied():
    image = Image.fromarray(RAMP)
    exif = image.getexif()
    exif[images.EXIF_ORIENTATION] = 6  # the camera was turned: show it rotated by 90 degrees
    made = to_jpeg(encode(image, "JPEG", exif=exif.tobytes()))
    assert (made.height, made.width) == (60, 40)
    assert decode(made.content).shape == (60, 40, 3)


def test_short_side_shrinks_but_never_enlarges():
    content = encode(Image.fromarray(RAMP), "JPEG")
    small = to_jpeg(content, short_side=20)
    assert (small.height, small.width) == (20, 30)
    assert to_jpeg(content, short_side=50).content == content


def bomb() -> bytes:
    """A small PNG that claims 50,000 x 50,000 pixels."""

    def chunk(content: bytes) -> bytes:
        return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")

    header = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(header) + chunk(b"IDAT" + zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"GIF89 is what this text claims to be", "broken|not an image"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
        (encode(Image.fromarray(NOISE).convert("CMYK"), "JPEG")[:-400], "broken: image file is truncated"),
        (encode(Image.fromarray(NOISE), "PNG")[:-400], "broken"),
        (bomb(), "pixels"),
    ],
    ids=["empty", "fake-gif", "html", "postscript", "cut-jpeg", "cut-png", "bomb"],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(content, reason):
    with pytest.raises(Reject, match=reason):
        to_jpeg(content)


def test_large_images_are_rejected_by_their_header():
    content = encode(Image.fromarray(RAMP), "JPEG")
    with pytest.raises(Reject, match="60x40 pixels, more than the limit of 2399 pixels"):
        to_jpeg(content, max_pixels=2399)
