"""Converts a photograph with an ICC profile to sRGB (colour management).

Cameras, phones and scanners encode the same colour as different numbers. An embedded ICC profile defines the encoding.
Networks are trained on sRGB.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

SRGB = "srgb"  # no profile, or one of sRGB: the pixels are not changed
CONVERTED = "converted"  # from another profile
BROKEN = "broken profile"  # the profile cannot be used, and the pixels are treated as sRGB

_TOLERANCE = 2  # levels of 255: a profile that changes no colour by more is a variant of sRGB
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # of a profile, by the mode of Pillow's image


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str]:
    """Converts an image to mode RGB and to sRGB. Also returns SRGB, CONVERTED or BROKEN.

    Args:
        image: mode RGB, L, CMYK or LAB.
        profile: the content of the image's ICC profile, or None.
    """
    if image.mode == "LAB":  # absolute colours, which need no profile
        return _apply(_build(ImageCms.createProfile("LAB"), "LAB"), image), CONVERTED
    mode, transform = _for_mode(profile, image.mode)
    if isinstance(transform, str):
        return image.convert("RGB"), transform
    return _apply(transform, image.convert(mode)), CONVERTED


def kind(profile: bytes | None, mode: str) -> str:
    """Returns the second result of `to_srgb` for an image of mode RGB, L or CMYK: SRGB, CONVERTED or BROKEN."""
    _, transform = _for_mode(profile, mode)
    return transform if isinstance(transform, str) else CONVERTED


def _for_mode(profile: bytes | None, mode: str) -> tuple[str, ImageCms.ImageCmsTransform | str]:
    """Returns the mode that an image is converted to, and the transform to apply after that.

    If there is no transform, returns SRGB or BROKEN instead of it.
    """
    if profile is None:
        return mode, SRGB
    transform = _transform(profile, mode)
    if transform == BROKEN and mode == "L":  # grey pixels with an RGB profile: invalid, but it happens
        return "RGB", _transform(profile, "RGB")
    return mode, transform


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str:
    """Returns the transform from a profile to sRGB for pixels of a mode.

    If there is no transform, returns SRGB or BROKEN.
    """
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
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC  # keeps the colours that sRGB has
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", intent)


def _apply(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is None for changes in place only
    return converted


def _probe(mode: str) -> Image.Image | None:
    """Returns pixels from the whole range of a mode, or None if no profile of that mode can equal sRGB."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    if mode != "RGB":
        return None
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3))
