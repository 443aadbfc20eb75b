"""Photographs in other colour spaces than sRGB: `data` and `predict` convert them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from sqznet.data.sources import synthetic
from sqznet.images import colour, decode
from tests import icc

PICTURE = Image.open(io.BytesIO(synthetic.draw("colour/0", 3, seed=0))).convert("RGB")
PIXELS = np.asarray(PICTURE).astype(int)
PROFILES = {"Display P3": icc.display_p3(), "Adobe RGB": icc.adobe_rgb(), "ProPhoto": icc.prophoto()}
FORMATS = {
    "JPEG": {"quality": 98, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 98, "subsampling": "4:4:4"},
}


def encode(image: Image.Image, format_name: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def difference(pixels: np.ndarray, expected: np.ndarray = PIXELS) -> float:
    return float(np.abs(pixels.astype(int) - expected).mean())


def stored(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(decode.to_jpeg(content).content)).convert("RGB"))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("format_name", FORMATS)
def test_the_colours_of_a_profile_are_converted_to_srgb(name, format_name):
    profile = PROFILES[name]
    content = encode(icc.from_srgb(PICTURE, profile), format_name, icc_profile=profile, **FORMATS[format_name])
    pixels, colours = decode.decode(content)
    assert colours == decode.to_jpeg(content).colours == colour.CONVERTED
    assert difference(pixels) < 2
    assert difference(stored(content)) < 2


def test_the_stored_jpeg_has_no_profile_that_would_be_applied_again():
    content = encode(icc.from_srgb(PICTURE, PROFILES["Display P3"]), "JPEG", icc_profile=PROFILES["Display P3"])
    assert "icc_profile" not in Image.open(io.BytesIO(decode.to_jpeg(content).content)).info


@pytest.mark.parametrize(
    "profile",
    [icc.srgb(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()],
    ids=["parametric curve", "Little CMS"],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_whose_profile_is_srgb_keeps_its_bytes(profile, mode):
    content = encode(PICTURE.convert(mode), "JPEG", icc_profile=profile)
    made = decode.to_jpeg(content)
    assert made.content == content
    assert made.colours == decode.decode(content)[1] == colour.SRGB


@pytest.mark.parametrize(
    "profile",
    [icc.display_p3()[:200], b"no profile at all", icc.cmyk(), icc.display_p3().replace(b"RGB ", b"GBR ", 1)],
    ids=["cut short", "text", "of another mode", "of no known mode"],
)
def test_a_broken_profile_counts_as_srgb_and_says_so(profile):
    content = encode(PICTURE, "JPEG", icc_profile=profile)
    made = decode.to_jpeg(content)
    assert made.content == content
    assert made.colours == decode.decode(content)[1] == colour.BROKEN


def test_grey_with_a_profile_of_its_own_is_converted():
    linear = np.asarray(PICTURE.convert("L")) / 255
    shown = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)  # IEC 61966-2-1
    grey = Image.fromarray(np.rint(255 * shown ** (1 / 1.8)).astype(np.uint8))
    content = encode(grey, "PNG", icc_profile=icc.grey(1.8))
    pixels, colours = decode.decode(content)
    assert colours == colour.CONVERTED
    assert difference(pixels, np.asarray(PICTURE.convert("L").convert("RGB")).astype(int)) < 2


def test_cmyk_is_converted_by_its_profile_and_plainly_without_one():
    inks = PICTURE.convert("CMYK")
    plain, colours = decode.decode(encode(inks, "JPEG", quality=98))
    assert (difference(plain) < 2, colours) == (True, colour.SRGB)
    content = encode(inks, "TIFF", icc_profile=icc.cmyk())
    printed, colours = decode.decode(content)
    by_hand = ImageCms.profileToProfile(
        inks, ImageCms.ImageCmsProfile(io.BytesIO(icc.cmyk())), ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB",
    )  # fmt: skip
    assert colours == colour.CONVERTED
    assert difference(printed, np.asarray(by_hand).astype(int)) == 0
    assert difference(printed, plain.astype(int)) > 10


def test_lab_pixels_are_read():
    lab = ImageCms.profileToProfile(PICTURE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), 1, "LAB")
    pixels, colours = decode.decode(encode(lab, "TIFF"))
    assert (difference(pixels) < 2, colours) == (True, colour.CONVERTED)


def test_transparency_goes_onto_white_after_the_conversion():
    profile = PROFILES["Adobe RGB"]
    cut_out = icc.from_srgb(PICTURE, profile).convert("RGBA")
    alpha = np.linspace(0, 255, PICTURE.width).astype(np.uint8)
    cut_out.putalpha(Image.fromarray(np.tile(alpha, (PICTURE.height, 1))))
    pixels, _ = decode.decode(encode(cut_out, "PNG", icc_profile=profile))
    share = alpha[np.newaxis, :, np.newaxis] / 255
    assert difference(pixels, PIXELS * share + 255 * (1 - share)) < 2


def test_a_profile_whose_parts_cannot_be_joined_is_broken():
    content = encode(PICTURE, "JPEG", icc_profile=icc.srgb())
    assert content.count(b"ICC_PROFILE\0\1\1") == 1
    in_two = content.replace(b"ICC_PROFILE\0\1\1", b"ICC_PROFILE\0\1\2")  # the second part is missing
    assert decode.to_jpeg(in_two).colours == decode.decode(in_two)[1] == colour.BROKEN
