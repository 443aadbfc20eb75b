"""One set of pictures that every implementation of the input contract has to decode and resize alike.

  python -m tests.contract.pictures FOLDER
      writes the set, and of each picture NAME.expected.png, the expected pixels

The pictures are synthetic, so that the expected pixels are known: each file is made from them.
docs/resize.md specifies the contract.
"""

from __future__ import annotations

import functools
import io
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from tests import icc

ORIENTATION = 0x0112  # tag of EXIF
LEFT_RIGHT, UP_DOWN = (slice(None), slice(None, None, -1)), (slice(None, None, -1),)
# The stored pixels for an upright picture, by EXIF orientation; (height, width, 3) of the upright picture.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[LEFT_RIGHT],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[UP_DOWN],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[UP_DOWN],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[LEFT_RIGHT],
}


@dataclass(frozen=True)
class Picture:
    name: str
    content: bytes
    expected: np.ndarray  # uint8 RGB, (height, width, 3): upright, in sRGB, on white


def draw() -> list[Picture]:
    """The whole set. The same on every call."""
    made = [*_turned(), *_transparent(), *_deep(), *_of_few_colours(), *_of_inks(), *_profiled(), *_shaped()]
    return [Picture(name, content, np.ascontiguousarray(expected)) for name, content, expected in made]


Made = list[tuple[str, bytes, np.ndarray]]


@functools.cache
def scene(width: int = 240, height: int = 180) -> np.ndarray:
    """Something like a photograph: a sky, a ground with a texture, three balls. uint8 RGB, (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    down = (y / max(1, height - 1))[..., None]
    pixels = (1 - down) * [150, 185, 225] + down * [70, 105, 60]
    pixels = pixels + 9 * (np.sin(x / 7.1) * np.sin(y / 5.3))[..., None]
    for across, along, colour in ((0.25, 0.55, (225, 25, 30)), (0.52, 0.4, (30, 165, 50)), (0.78, 0.62, (35, 55, 205))):
        radius = 0.17 * min(width, height)
        distance = np.hypot(x - across * width, y - along * height)
        inside = 1 / (1 + np.exp((distance - radius).clip(-30, 30) / 1.5))[..., None]
        shade = 1 - 0.35 * (distance / radius).clip(0, 1)[..., None]
        pixels = (1 - inside) * pixels + inside * shade * colour
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


@functools.cache
def grey_scene() -> np.ndarray:
    return np.asarray(Image.fromarray(scene()).convert("L"))


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def opacity() -> np.ndarray:
    """Opacity that falls from the middle to the edges: uint8, (height, width)."""
    height, width = scene().shape[:2]
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    return np.rint(255 * ((0.46 - distance) / 0.16).clip(0, 1)).astype(np.uint8)


def hidden() -> np.ndarray:
    """The scene, with bright colours where `opacity` is 0."""
    pixels = scene().copy()
    pixels[opacity() == 0] = (255, 0, 255)
    return pixels


def on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = (alpha / 255)[..., None]
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def saved(pixels: np.ndarray | Image.Image, format: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.ascontiguousarray(pixels))
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray | Image.Image, **options) -> bytes:
    # Its loss is smaller than the differences between decoders.
    return saved(pixels, "JPEG", **{"quality": 97, "subsampling": 0, **options})


def avif(pixels: np.ndarray | Image.Image, **options) -> bytes:
    return saved(pixels, "AVIF", quality=95, subsampling="4:4:4", **options)


def png(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG file of 16 bits a channel, which Pillow does not write: uint16, (height, width, channels)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _turned() -> Made:
    made: Made = []
    for orientation, store in STORED.items():
        made.append((f"orientation-{orientation}.jpg", jpeg(store(scene()), exif=exif(orientation)), scene()))
        if orientation > 1:
            webp = saved(store(scene()), "WEBP", lossless=True, exif=exif(orientation))
            made.append((f"orientation-{orientation}.webp", webp, scene()))
    made.append(("orientation-6.png", saved(STORED[6](scene()), "PNG", exif=exif(6)), scene()))
    made.append(("orientation-6.avif", avif(STORED[6](scene()), exif=exif(6)), scene()))
    return made


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


def _transparent() -> Made:
    rgba = np.dstack([hidden(), opacity()])
    grey = np.dstack([grey_scene(), opacity()])
    seen = on_white(scene(), opacity())
    opaque_red = scene().copy()
    opaque_red[:40] = (255, 0, 0)
    keyed = opaque_red.copy()
    keyed[:40] = 255
    return [
        ("alpha.png", saved(rgba, "PNG"), seen),
        ("alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True), seen),
        ("alpha-16-bits.png", png(rgba.astype(np.uint16) * 257, 6), seen),
        ("grey-alpha.png", saved(grey, "PNG"), on_white(three(grey_scene()), opacity())),
        ("one-colour-transparent.png", saved(opaque_red, "PNG", transparency=(255, 0, 0)), keyed),
    ]


def _deep() -> Made:
    rng = np.random.default_rng(0)
    fine = rng.integers(-100, 100, scene().shape)  # less than half a level of 257
    rgb = (scene().astype(int) * 257 + fine).clip(0, 65535).astype(np.uint16)
    grey = (grey_scene().astype(int) * 257 + fine[..., 0]).clip(0, 65535).astype(np.uint16)
    return [
        ("16-bits.png", png(rgb, 2), scene()),
        ("grey-16-bits.png", png(grey[..., None], 0), three(grey_scene())),
    ]


def _of_few_colours() -> Made:
    palette = Image.fromarray(scene()).quantize(64, dither=Image.Dither.NONE)
    colours = np.asarray(palette.convert("RGB"))
    indices = np.asarray(palette)
    alpha = np.where(indices == indices[0, 0], 0, 255).astype(np.uint8)
    black_and_white = np.where(grey_scene() > 120, 255, 0).astype(np.uint8)
    other = Image.fromarray(scene()[:, ::-1]).quantize(64, dither=Image.Dither.NONE)
    animation = {"save_all": True, "append_images": [other], "duration": 100, "loop": 0}
    return [
        ("palette.png", saved(palette, "PNG"), colours),
        ("palette-transparent.png", saved(palette, "PNG", transparency=int(indices[0, 0])), on_white(colours, alpha)),
        ("black-and-white.png", saved(Image.fromarray(black_and_white).convert("1"), "PNG"), three(black_and_white)),
        ("grey.png", saved(grey_scene(), "PNG"), three(grey_scene())),
        ("grey.jpg", jpeg(grey_scene()), three(grey_scene())),
        ("animated.gif", saved(palette, "GIF", **animation), colours),
        (
            "animated.webp",
            saved(scene(), "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(scene()[:, ::-1])]),
            scene(),
        ),
    ]


def _of_inks() -> Made:
    rgb = Image.fromarray(scene())
    plain = rgb.convert("CMYK")
    # Some of the three inks as black, as presses have it.
    inks = np.asarray(plain).copy()
    black = inks[..., :3].min(axis=-1) // 2
    inks[..., :3] -= black[..., None]
    inks[..., 3] = black
    pressed = Image.frombytes("CMYK", rgb.size, inks.tobytes())
    without = ((255 - inks[..., :3].astype(int)) * (255 - black[..., None].astype(int)) + 127) // 255
    profile = icc.cmyk()
    through = ImageCms.profileToProfile(
        pressed,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
    )
    return [
        ("cmyk.jpg", jpeg(pressed), without.astype(np.uint8)),
        ("cmyk-press-profile.jpg", jpeg(pressed, icc_profile=profile), np.asarray(through)),
    ]


def _profiled() -> Made:
    rgb, made = Image.fromarray(scene()), []
    profiles = {"display-p3": icc.display_p3(), "adobe-rgb": icc.adobe_rgb(), "prophoto": icc.prophoto()}
    for name, profile in profiles.items():
        converted = icc.from_srgb(rgb, profile)
        made.append((f"{name}.jpg", jpeg(converted, icc_profile=profile), scene()))
        made.append((f"{name}.png", saved(converted, "PNG", icc_profile=profile), scene()))
    wide = np.asarray(icc.from_srgb(Image.fromarray(hidden()), icc.display_p3()))
    with_alpha = saved(np.dstack([wide, opacity()]), "PNG", icc_profile=icc.display_p3())
    palette = icc.from_srgb(rgb, icc.adobe_rgb()).quantize(128, dither=Image.Dither.NONE)
    through = ImageCms.profileToProfile(
        palette.convert("RGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(icc.adobe_rgb())),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
    )
    grey = icc.grey(1.8)
    levels = icc.from_srgb(Image.fromarray(three(grey_scene())), grey)
    return [
        *made,
        ("display-p3-alpha.png", with_alpha, on_white(scene(), opacity())),
        ("adobe-rgb-palette.png", saved(palette, "PNG", icc_profile=icc.adobe_rgb()), np.asarray(through)),
        ("grey-gamma-profile.jpg", jpeg(levels, icc_profile=grey), three(grey_scene())),
        ("grey-gamma-profile.png", saved(levels, "PNG", icc_profile=grey), three(grey_scene())),
        ("srgb-profile.jpg", jpeg(rgb, icc_profile=icc.srgb()), scene()),
        ("broken-profile.jpg", jpeg(rgb, icc_profile=icc.display_p3()[:200]), scene()),
        ("no-profile-at-all.png", saved(rgb, "PNG", icc_profile=b"what a scanner left here"), scene()),
    ]


def _shaped() -> Made:
    noise = np.random.default_rng(0).normal(0, 25, (32, 32, 1))  # in single pixels, and grey, as in photographs
    tiny = np.rint(scene(32, 32) + noise).clip(0, 255).astype(np.uint8)
    wide, tall = scene(2000, 20), scene(20, 2000)
    return [
        ("wide.jpg", jpeg(wide), wide),
        ("tall.jpg", jpeg(tall), tall),
        ("one-row.png", saved(wide[:1], "PNG"), wide[:1]),
        ("tiny.png", saved(tiny, "PNG"), tiny),
        ("progressive-halved-colours.jpg", jpeg(scene(), subsampling=2, progressive=True), scene()),
        ("avif.avif", avif(scene()), scene()),
        ("bmp.bmp", saved(scene(), "BMP"), scene()),
    ]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in draw():
        (folder / picture.name).write_bytes(picture.content)
        Image.fromarray(picture.expected).save(folder / f"{picture.name}.expected.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
