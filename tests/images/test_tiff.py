"""TIFF files as scanners, microscopes and cameras write them: several pictures, and more than 8 bits."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from sqznet.core.errors import Reject
from sqznet.data.sources import synthetic
from sqznet.images import decode
from tests import tiff
from tests.tiff import Page

PIXELS = np.asarray(Image.open(io.BytesIO(synthetic.draw("tiff/0", 5, seed=0))).convert("RGB"))
GREY = np.rint(PIXELS[..., 1] * (255 / PIXELS[..., 1].max())).astype(np.uint8)  # from black to white
PREVIEW = np.full((24, 32, 3), (200, 30, 30), np.uint8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "pages",
    [
        [Page(PREVIEW, {tiff.SUBFILE_TYPE: tiff.REDUCED}), Page(PIXELS)],
        [Page(PREVIEW, {tiff.SUBFILE_TYPE: tiff.REDUCED}, below=[Page(PIXELS)])],
        [Page(PREVIEW), Page(PIXELS)],
        [Page(np.pad(PIXELS, ((9, 9), (9, 9), (0, 0))), {tiff.SUBFILE_TYPE: tiff.REDUCED}), Page(PIXELS)],
        [Page(PIXELS), Page(PIXELS // 2)],
        [Page(PIXELS), Page(np.pad(GREY, 20), {tiff.SUBFILE_TYPE: tiff.MASK})],
    ],
    ids=["marked first", "picture below", "unmarked", "a large preview", "two pages", "a mask"],
)
def test_the_main_picture_is_read_not_its_preview(pages, order):
    content = tiff.write(pages, order)
    assert np.array_equal(decode.to_pixels(content), PIXELS)
    assert decode.to_jpeg(content).height == len(PIXELS)


def test_the_orientation_of_the_main_picture_counts():
    turned = np.rot90(PIXELS).copy()
    content = tiff.write(
        [Page(PREVIEW, {tiff.SUBFILE_TYPE: 1, tiff.ORIENTATION: 3}), Page(turned, {tiff.ORIENTATION: 6})]
    )
    assert np.array_equal(decode.to_pixels(content), PIXELS)


@pytest.mark.parametrize("pointer", [34665, 34853, 40965, 700], ids=["EXIF", "GPS", "interoperability", "XMP"])
@pytest.mark.parametrize("where", [0, 7, 2**31, 2**32 - 1])
def test_metadata_with_invalid_offsets_leave_the_picture_upright(pointer, where):
    content = tiff.write([Page(np.rot90(PIXELS).copy(), {tiff.ORIENTATION: 6, pointer: where})])
    assert np.array_equal(decode.to_pixels(content), PIXELS)


@pytest.mark.parametrize("photometric", [32803, 34892], ids=["colour filter array", "linear raw"])
def test_a_raw_photograph_is_refused_by_name_though_its_preview_could_be_read(photometric):
    content = tiff.write([Page(PREVIEW, {tiff.SUBFILE_TYPE: 1}, below=[Page(GREY, {262: photometric})])])
    with pytest.raises(Reject, match="a raw photograph: convert it"):
        decode.to_pixels(content)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values",
    [
        GREY.astype(np.uint16) * 257,
        GREY.astype(np.uint16) * 64,
        GREY.astype(np.uint16) * 16,
        GREY.astype(np.uint16) * 4,
        GREY.astype(np.int16) * 128,
        GREY.astype(np.int32) * 8421504,
        GREY.astype(np.float32) / 255,
        GREY.astype(np.float32),
        GREY.astype(np.float32) * 257,
        GREY.astype(np.float32) / 170,
        GREY.astype(np.float32) / 25500,
        GREY.astype(np.float32) * 4000,
        GREY.astype(np.int32) * 300,
        GREY.astype(np.int32) * 65793,
    ],
    ids=[
        "16 bits",
        "14 in 16",
        "12 in 16",
        "10 in 16",
        "15",
        "31",
        "0 to 1",
        "0 to 255",
        "0 to 65535",
        "0 to 1.5",
        "0 to 0.01",
        "0 to a million",
        "17 bits",
        "24 bits",
    ],
)
def test_wide_grey_is_scaled_by_its_range(values, order):
    pixels = decode.to_pixels(tiff.write([Page(values)], order))
    assert np.abs(pixels.astype(int) - GREY[..., np.newaxis]).max() <= 1


@pytest.mark.parametrize("values", [GREY, GREY.astype(np.uint16) * 257, GREY.astype(np.float32) / 255])
def test_a_picture_in_which_zero_is_white_is_inverted(values):
    pixels = decode.to_pixels(tiff.write([Page(values, {262: 0})]))
    assert np.abs(pixels.astype(int) - (255 - GREY[..., np.newaxis].astype(int))).max() <= 1


def test_a_picture_below_its_preview_is_turned_as_the_preview_says():
    turned = Page(np.rot90(PIXELS).copy())
    content = tiff.write([Page(PREVIEW, {tiff.SUBFILE_TYPE: 1, tiff.ORIENTATION: 6}, below=[turned])])
    assert np.array_equal(decode.to_pixels(content), PIXELS)


@pytest.mark.parametrize("offset", [2**63, 2**64 - 1])
def test_an_offset_beyond_every_file_is_refused(offset):
    with pytest.raises(Reject):
        decode.to_pixels(b"II+\0" + struct.pack("<HHQ", 8, 0, offset) + bytes(64))


def test_32_bits_without_a_sign_are_scaled():
    pixels = decode.to_pixels(tiff.write([Page(GREY.astype(np.uint32) * 16843009)]))
    assert np.array_equal(pixels[..., 0], GREY)


def test_wide_colours_are_scaled_or_refused_but_never_dark():
    content = tiff.write([Page(PIXELS.astype(np.uint16) * 257)])
    assert np.array_equal(decode.to_pixels(content), PIXELS)
    with pytest.raises(Reject, match="lowest quarter of their 16 bits only.* scale them"):
        decode.to_pixels(tiff.write([Page(PIXELS.astype(np.uint16) * 16)]))


@pytest.mark.parametrize("worst", [np.nan, np.inf, -1.0])
def test_negative_or_non_finite_pixels_are_refused(worst):
    values = GREY.astype(np.float32) / 255
    values[3, 3] = worst
    with pytest.raises(Reject, match="negative or not numbers"):
        decode.to_pixels(tiff.write([Page(values)]))


def test_an_unsupported_pixel_format_is_named():
    with pytest.raises(Reject, match="a TIFF file whose pixels are not read; save it with 8 or 16 bits"):
        decode.to_pixels(tiff.write([Page(GREY.astype(np.float64))]))


def test_directories_that_point_at_each_other_do_not_loop():
    content = bytearray(tiff.write([Page(PREVIEW), Page(PIXELS)]))
    content[-4:] = content[4:8]  # the last directory is followed by the first
    assert np.array_equal(decode.to_pixels(bytes(content)), PIXELS)
