"""What a file is that is no photograph sqznet reads, told by how it starts; and HEIC, which an extra package reads."""

from __future__ import annotations

import functools

TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer in place of the file; run git lfs pull"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    *((0, mark, "a TIFF file whose pixels are not read; save it with 8 or 16 bits a channel") for mark in TIFF_MARKS),
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
    """Whether it is HEIC or another HEIF, AVIF aside."""
    return content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS and b"avif" not in content[8:40]


@functools.cache
def reads_heif() -> bool:
    """Whether the package that reads HEIC is installed; Pillow then knows the format by the name HEIF."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def describe(content: bytes) -> str:
    """What the content of a file is that no decoder knows, and what to do, as far as its start tells."""
    start = f"(starts with {content[:8]!r})"
    if is_heif(content):
        return f"HEIC {start}, " + (
            "which cannot be decoded"
            if reads_heif()
            else "which the package pillow-heif reads: pip install pillow-heif"
        )
    for at, mark, kind in _KINDS:
        if content[at : at + len(mark)].lower() == mark.lower():
            return f"{kind} {start}"
    return f"no format that is read ({', '.join(_READ)}) {start}"


_READ = ("JPEG", "PNG", "WebP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "HEIC with pillow-heif")
