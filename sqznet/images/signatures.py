"""Identifies, by their first bytes, files that no decoder reads. Also detects HEIC, which an optional package reads."""

from __future__ import annotations

import functools

from sqznet.core.errors import NotAnImage, Reject

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_READ = ("JPEG", "PNG", "WebP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "HEIC with pillow-heif")
# Formats that are read: a decoder refused this file.
_REFUSED = (
    (0, b"\xff\xd8\xff", "a damaged JPEG, or one of a kind that is not read (12 bits, hierarchical)"),
    (0, b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
    (8, b"WEBP", "a damaged WebP"),
    *((0, mark, "a TIFF file whose pixels are not read; save it with 8 or 16 bits a channel") for mark in TIFF_MARKS),
)
_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer in place of the file; run git lfs pull"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"8BPS", "a Photoshop document; save it as PNG or TIFF"),
    (0, b"\xff\x0a", "JPEG XL, which is not read; convert it to JPEG or PNG"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL, which is not read; convert it to JPEG or PNG"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000, which is not read; convert it to JPEG or PNG"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000, which is not read; convert it to JPEG or PNG"),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph; convert it to JPEG or TIFF"),
    (0, b"PK\x03\x04", "a ZIP archive; unpack it"),
    (0, b"Rar!", "a RAR archive; unpack it"),
    (0, b"\x1f\x8b", "gzip data; unpack it"),
    (0, b"<svg", "an SVG drawing; convert it to PNG"),
    (0, b"<?xml", "an XML file"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (8, b"AVI ", "a video"),
    (4, b"ftyp", "a video, or a kind of HEIF that is not read"),
    (0, b"\x1aE\xdf\xa3", "a video"),
)


def is_heif(content: bytes) -> bool:
    """Returns whether the file is HEIC or another kind of HEIF except AVIF."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[8:40]


@functools.cache
def reads_heif() -> bool:
    """Returns whether the package that reads HEIC is installed. If so, registers it with Pillow under the name HEIF."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def refused(content: bytes) -> Reject:
    """Returns the error for a file that no decoder reads. The error names the kind of the file and the remedy."""
    start = f"(starts with {content[:8]!r})"
    if is_heif(content):
        remedy = "which cannot be decoded" if reads_heif() else "which pillow-heif reads: pip install pillow-heif"
        return Reject(f"HEIC {start}, {remedy}")
    for kinds, error, prefix in ((_REFUSED, Reject, ""), (_KINDS, NotAnImage, "not an image: ")):
        for at, mark, kind in kinds:
            if content[at : at + len(mark)].lower() == mark.lower():
                return error(f"{prefix}{kind} {start}")
    return NotAnImage(f"not an image: no format that is read ({', '.join(_READ)}) {start}")
