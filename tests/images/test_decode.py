from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image

from sqznet.images import decode
from sqznet.images.decode import Reject, to_jpeg
from tests.fuzz_metadata import with_checksums

RAMP = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode_jpeg(content: bytes) -> np.ndarray:
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
def test_other_images_become_an_rgb_jpeg_that_looks_the_same(image, format):
    options = {"lossless": True} if format == "WEBP" else {}
    made = to_jpeg(encode(image, format, **options))
    assert np.abs(decode_jpeg(made.content) - np.asarray(image.convert("RGB")).astype(int)).mean() < 2


def test_16_bits_are_scaled_not_clipped():
    grey = (np.arange(100 * 100).reshape(100, 100) * 6.5).astype(np.uint16)
    made = to_jpeg(encode(Image.fromarray(grey), "PNG"))
    assert np.abs(decode_jpeg(made.content)[..., 0] - (grey >> 8)).max() < 6


@pytest.mark.parametrize("factor", [257, 64, 16, 4, 1], ids=["16 bits", "14", "12", "10", "8"])
def test_fewer_bits_in_16_are_scaled_by_their_range(factor):
    grey = np.linspace(0, 255, 100 * 100).reshape(100, 100).astype(np.uint16)
    pixels = decode.to_pixels(encode(Image.fromarray(grey * factor), "PNG"))
    assert np.abs(pixels[..., 0].astype(int) - grey).max() <= 1


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (16, 16), (255, 0, 0, 0)),
        Image.new("LA", (16, 16), (40, 0)),
        Image.new("RGB", (16, 16), "red").quantize(4),
        Image.new("RGB", (16, 16), (9, 8, 7)),
        Image.new("L", (16, 16), 9),
        Image.fromarray(np.full((16, 16), 30_000, np.uint16)),
    ],
    ids=["colours", "grey", "palette", "a colour", "a grey level", "a level of 16 bits"],
)
def test_transparency_goes_onto_white(image):
    key = {"P": image.getpixel((0, 0)), "RGB": (9, 8, 7), "L": 9, "I;16": 30_000}.get(image.mode)
    content = encode(image, "PNG", **({} if key is None else {"transparency": key}))
    assert decode.to_pixels(content).min() == 255
    assert decode_jpeg(to_jpeg(content).content).min() > 250


@pytest.mark.parametrize("opaque", [65535, 4095])
def test_fewer_bits_in_16_are_refused_behind_transparency_too(opaque):
    colours = (RAMP.astype(np.uint16) * 16, np.full((40, 60, 1), opaque, np.uint16))
    pixels = np.concatenate(colours, axis=2)
    pixels[0, 0, 3] = 0
    with pytest.raises(Reject, match="lowest quarter of their 16 bits only"):
        decode.to_pixels(png_of_16_bits(pixels))


def test_fewer_bits_in_16_are_refused_in_ppm():
    wide, head = RAMP.astype(np.uint16), b"P6 60 40 65535\n"
    with pytest.raises(Reject, match="lowest quarter of their 16 bits only"):
        decode.to_pixels(head + (16 * wide).astype(">u2").tobytes())
    assert np.array_equal(decode.to_pixels(head + (257 * wide).astype(">u2").tobytes()), RAMP)
    assert np.array_equal(decode.to_pixels(b"P6 60 40 255\n" + RAMP.tobytes()), RAMP)


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Colours with opacity, (height, width, 4)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 6, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(len(content).to_bytes(4, "big") + name + content + bytes(4) for name, content in chunks)
    return with_checksums(b"\x89PNG\r\n\x1a\n" + body)


def test_an_image_too_long_for_jpeg_is_rejected_in_a_build_but_predicted():
    content = encode(Image.new("RGB", (66_000, 2)), "PNG")
    with pytest.raises(Reject, match="66000x2 pixels; a JPEG has sides of 65500 at most"):
        to_jpeg(content)
    assert decode.to_pixels(content).shape == (2, 66_000, 3)


def test_half_transparent_colours_are_mixed_with_white():
    content = encode(Image.new("RGBA", (16, 16), (200, 100, 0, 128)), "PNG")
    assert np.abs(decode.to_pixels(content)[0, 0].astype(int) - [227, 177, 127]).max() <= 1


# The inverse of each orientation, as EXIF 2.3 (section 4.6.4, Orientation) describes where row 0 and column 0 are.
UPRIGHT = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 3),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def exif_block(orientation: int, **tags) -> bytes:
    exif = Image.Exif()
    exif[decode.EXIF_ORIENTATION] = orientation
    for tag, value in tags.items():
        exif[int(tag.removeprefix("tag"))] = value
    return exif.tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_exif_rotation_is_applied(orientation, format):
    options = {"JPEG": {"quality": 98}, "WEBP": {"quality": 98}, "AVIF": {"quality": 98}}.get(format, {})
    content = encode(Image.fromarray(RAMP), format, exif=exif_block(orientation), **options)
    expected = UPRIGHT[orientation](RAMP).astype(int)
    assert np.abs(decode.to_pixels(content) - expected).mean() < 3
    made = to_jpeg(content)
    assert (made.height, made.width) == expected.shape[:2]
    assert np.abs(decode_jpeg(made.content) - expected).mean() < 3


def mistyped(block: bytes, tag: int, kind: int) -> bytes:
    """The EXIF block with another type for one tag of its first directory."""
    start = block.index(b"MM\0*")
    for at in range(start + 10, len(block) - 12, 12):
        if int.from_bytes(block[at : at + 2], "big") == tag:
            return block[: at + 2] + kind.to_bytes(2, "big") + block[at + 4 :]
    raise AssertionError(f"no tag {tag}")


@pytest.mark.parametrize("kind", range(14))
@pytest.mark.parametrize("tag", [271, 282, 305, 36867])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_tag_of_another_type_ends_no_build_and_the_orientation_is_applied(tag, kind, format):
    block = exif_block(6, tag271="Make", tag282=72.0, tag305="Program", tag36867="2020:01:01 00:00:00")
    content = encode(Image.fromarray(RAMP), format, exif=block)
    start = block.index(b"MM\0*")
    assert block[start:] in content
    content = content.replace(block[start:], mistyped(block, tag, kind)[start:])
    if format == "PNG":
        content = with_checksums(content)
    assert (to_jpeg(content).height, to_jpeg(content).width) == (60, 40)
    assert decode.to_pixels(content).shape == (60, 40, 3)


@pytest.mark.parametrize("orientation", [0, 9, 60000])
def test_an_orientation_that_does_not_exist_is_upright(orientation):
    content = encode(Image.fromarray(RAMP), "JPEG", exif=exif_block(orientation))
    assert to_jpeg(content).content == content


def test_pictures_appended_to_a_jpeg_are_ignored():
    depth_map = Image.new("L", (60, 40), 99)
    content = encode(Image.fromarray(RAMP), "MPO", save_all=True, append_images=[depth_map])
    assert to_jpeg(content).content == content
    assert np.abs(decode.to_pixels(content) - RAMP.astype(int)).mean() < 12


def test_a_jpeg_that_not_every_decoder_reads_is_stored_as_one_that_all_do():
    content = encode(Image.fromarray(RAMP), "JPEG")
    frame = content.index(b"\xff\xc0")
    assert decode._frame(content) == 0xC0
    for marker in (0xC3, 0xC9, 0xCA):
        assert decode._frame(content[: frame + 1] + bytes([marker]) + content[frame + 2 :]) == marker
    assert decode._frame(b"\xff\xd8\xff\xff\xff" + content[frame + 1 :]) == 0xC0  # filling bytes
    assert decode._frame(b"\xff\xd8") == 0


# A lossless JPEG of 16 x 12 grey pixels, written by libjpeg-turbo 3; TensorFlow's decoder reads none of that kind.
LOSSLESS = base64.b64decode(
    "/9j/xAAWAAEBAQAAAAAAAAAAAAAAAAADBAj/wwALCAAMABABABEA/9oACAEAAAYAAM/u7u7u7u7u70qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqq"
    "qqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqq0qqqqqqqqqqj/2Q=="
)


def test_a_lossless_jpeg_is_read_and_stored_by_the_same_rule():
    grey = np.add.outer(9 * np.arange(12), 7 * np.arange(16))
    assert np.array_equal(decode.to_pixels(LOSSLESS)[..., 0], grey)
    made = to_jpeg(LOSSLESS)
    assert decode._frame(made.content) == 0xC0
    assert np.abs(decode_jpeg(made.content)[..., 0] - grey).mean() < 1


@pytest.mark.parametrize("size", [32, 300])
def test_fine_detail_is_stored_within_two_levels(size):
    noise = np.random.default_rng(1).integers(0, 256, (size // 4, size // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    grain = noise if size > 128 else np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    made = to_jpeg(encode(Image.fromarray(grain), "PNG"))
    assert np.abs(decode_jpeg(made.content) - grain.astype(int)).mean() < 2


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
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer in place of the file; run git lfs pull"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL, which is not read; convert it"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2mp41", "a video"),
    ],
    ids=["empty", "fake-gif", "html", "postscript", "cut-jpeg", "cut-png", "bomb", "lfs", "jxl", "video"],
)
def test_an_unusable_file_is_rejected_with_the_reason(content, reason):
    with pytest.raises(Reject, match=reason):
        to_jpeg(content)


def test_large_images_are_rejected_by_their_header():
    content = encode(Image.fromarray(RAMP), "JPEG")
    with pytest.raises(Reject, match="60x40 pixels, more than the limit of 2399 pixels"):
        to_jpeg(content, max_pixels=2399)
