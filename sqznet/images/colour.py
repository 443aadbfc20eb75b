"""Colour profiles: a photograph in other colours than sRGB is converted to sRGB.

Cameras, phones and scanners write the same colour as different numbers, and say in an embedded ICC profile how the
numbers are meant. Networks are trained on sRGB, so the numbers are converted before anything else looks at them.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

SRGB = "srgb"  # no profile, or one that says sRGB: the pixels are left as they are
CONVERTED = "converted"  # from another profile
BROKEN = "broken profile"  # the profile cannot be used, so the pixels are taken for sRGB

_TOLERANCE = 2  # levels of 255: a profile that moves no colour by more is one of sRGB's many spellings
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # of a profile, by the mode of Pillow's image


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """The image in mode RGB and in the colours of sRGB; and SRGB, CONVERTED or BROKEN.

    Args:
        image: mode RGB, L, CMYK or LAB.
        profile: the content of the ICC profile that came with it, if one did.
    """
    if image.mode == "LAB":  # its colours are absolute, and need no profile
        return _apply(_build(ImageCms.createProfile("LAB"), "LAB"), image), CONVERTED
    mode, transform = _for_mode(profile, image.mode)
    if isinstance(transform, str):
        return image.convert("RGB"), transform
    return _apply(transform, image.convert(mode)), CONVERTED


def kind(profile: bytes | None, mode: str) -> str:
    """What `to_srgb` does with an image of mode RGB, L or CMYK: SRGB, CONVERTED or BROKEN."""
    _, transform = _for_mode(profile, mode)
    return transform if isinstance(transform, str) else CONVERTED


def _for_mode(profile: bytes | None, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | str]:
    """The mode to bring an image into, and what then converts it; or SRGB or BROKEN, where nothing does."""
    if profile is None:
        return mode, SRGB
    transform = _transform(profile, mode)
    if transform == BROKEN and mode == "L":  # grey pixels with a profile for RGB, which is not allowed but happens
        return "RGB", _transform(profile, "RGB")
    return mode, transform


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str:
    """What converts pixels of a mode from a profile to sRGB; or SRGB or BROKEN, where nothing is to be converted."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return BROKEN
        transform = _build(source, mode)
        probe = _probe(mode)
        if probe is None:
            return transform
        difference = np.asarray(_apply(transform, probe), int) - np.asarray(probe.convert("RGB"), int)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return BROKEN
    return SRGB if np.abs(difference).max() <= _TOLERANCE else transform


def _build(source: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # colours that sRGB has stay what they are
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent)


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None is for changes in place
    return converted


def _probe(mode: str) -> Image.Image | None:
    """Pixels from all over the range of a mode. None where no profile of that mode can be one of sRGB."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    if mode != "RGB":
        return None
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3))
