"""All implementations of the input contract: name to a function from pictures to the network's input.

Each function takes pictures and an empty folder, and gives the network's square of each by the picture's name: uint8
RGB, (size, size, 3), or a text where the implementation refuses it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import runpy
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from sqznet.data import pipeline, records
from sqznet.data.manifest import Manifest
from sqznet.export import programs
from sqznet.images import crop, resize
from sqznet.images.preprocessing import DECODING, Preprocessing
from sqznet.predict import photographs
from sqznet.serve import server as web_server
from tests.conftest import build_set
from tests.contract import kits
from tests.contract.pictures import Picture
from tests.export.test_constants import MANIFEST

CONTRACT = Preprocessing(64, 73)  # the same fraction of the photograph as 224 of 256
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Squares = dict[str, np.ndarray | str]


def manifest(preprocessing: Preprocessing) -> dict[str, Any]:
    """A manifest.json with that preprocessing."""
    return {
        **MANIFEST,
        "preprocessing": {**preprocessing.to_dict(), **DECODING, "colour_order": "RGB"},
        "threshold": {"value": 0.75, "min_precision": 0.98},
    }


def shards(pictures: list[Picture], folder: Path) -> Squares:
    """The record that the builder writes."""
    import tensorflow as tf

    squares: Squares = {}
    built, names = _built(pictures, folder)
    for split in built.splits:
        for features in _records(built, split):
            jpeg = tf.constant(features["image/encoded"].bytes_list.value[0])
            squares[_name(features)] = crop.preprocess_for_eval(jpeg, CONTRACT).numpy()
    return {name: squares.get(name, "refused") for name in names}


def evaluate(pictures: list[Picture], folder: Path) -> Squares:
    """The input that `evaluate` computes, for a data set that stores pixels."""
    squares: Squares = {}
    built, names = _built(pictures, folder, decoded=True)
    for split in built.splits:
        images = np.concatenate([images for images, _ in pipeline.examples(built, split, CONTRACT, None, 8)])
        squares |= dict(zip(map(_name, _records(built, split)), images, strict=True))
    return {name: squares.get(name, "refused") for name in names}


def _records(built: Manifest, split: str) -> Iterator[Any]:
    for shard in built.shards_of(split):
        yield from records.read(shard.path)


def _name(features: Any) -> str:
    return Path(features["image/filename"].bytes_list.value[0].decode()).name


def _built(pictures: list[Picture], folder: Path, **options: Any) -> tuple[Manifest, list[str]]:
    for number, picture in enumerate(pictures):
        path = folder / "pictures" / "train" / ("odd" if number % 2 else "even") / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.content)
    return build_set(f"folder:{folder / 'pictures'}", folder / "set", **options), [each.name for each in pictures]


def predict(pictures: list[Picture], folder: Path) -> Squares:
    """The input that `predict` computes."""
    squares: Squares = {}
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.content)
        photograph, _ = photographs.read(folder / picture.name)
        squares[picture.name] = resize.prepare(photograph, CONTRACT)
    return squares


def program_of_bundles(pictures: list[Picture], folder: Path) -> Squares:
    """The Python program photograph.py, which bundles contain."""
    scope = runpy.run_path(str(Path(programs.__file__).parent / "kits" / "python" / "photograph.py"))
    squares: Squares = {}
    for picture in pictures:
        (folder / picture.name).write_bytes(picture.content)
        squares[picture.name] = scope["read"](folder / picture.name, CONTRACT.to_dict())
    return squares


def page(pictures: list[Picture], folder: Path) -> Squares:
    """The page's own code, in Chromium."""
    script = """async ([bytes, preprocessing]) => {
        const { decode, preprocess } = await import("/photo.js");
        const blob = new Blob([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))]);
        try {
            const bitmap = await decode(blob);
            return [...preprocess(bitmap, bitmap.width, bitmap.height, preprocessing)];
        } catch (error) {
            return error.message;
        }
    }"""
    squares: Squares = {}
    with _browser() as browser, _serving(web_server.WEB) as address:
        tab = browser.new_page()
        tab.goto(f"{address}/package.json")
        for picture in pictures:
            content = base64.b64encode(picture.content).decode()
            got = tab.evaluate(script, [content, CONTRACT.to_dict()])
            size = CONTRACT.image_size
            is_refused = isinstance(got, str)
            squares[picture.name] = got if is_refused else np.array(got, np.uint8).reshape(size, size, 3)
    return squares


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    try:
        from playwright import sync_api
    except ImportError:
        raise kits.MissingError("needs Playwright's Python package") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise kits.MissingError(f"needs one of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def kit(language: str, pictures: list[Picture], folder: Path) -> Squares:
    """The code of the Kotlin or the Swift kit after decoding, which is the phone's own."""
    built = kits.KITS[language](manifest(CONTRACT), folder)
    more = ["ARGB_8888"] if language == "kotlin" else []
    decoded = [straight_rgba(picture.content) for picture in pictures]
    squares = built.network_pixels(decoded, CONTRACT.image_size, *more)
    return {picture.name: square for picture, square in zip(pictures, squares, strict=True)}


def straight_rgba(content: bytes) -> np.ndarray:
    """An image as phones decode it by their documentation: upright, sRGB, 8 bits, alpha beside the colours."""
    image = Image.open(io.BytesIO(content))
    image.load()
    orientation, profile = image.getexif().get(0x0112, 1), image.info.get("icc_profile", b"")
    rgba = image.convert("RGBA") if image.has_transparency_data else None
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = (rgba or image).convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), intent, "RGB") or image
    except (ImageCms.PyCMSError, OSError):
        image = image.convert("RGB")
    image.putalpha(rgba.getchannel("A") if rgba else 255)
    pixels = np.asarray(image)
    turned = {
        2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.swapaxes(0, 1),
        6: pixels.swapaxes(0, 1)[:, ::-1], 7: pixels[::-1, ::-1].swapaxes(0, 1), 8: pixels.swapaxes(0, 1)[::-1],
    }  # fmt: skip
    return np.ascontiguousarray(turned.get(orientation, pixels))


READERS: dict[str, Callable[[list[Picture], Path], Squares]] = {
    "shards": shards,
    "evaluate": evaluate,
    "predict": predict,
    "photograph.py": program_of_bundles,
    "page": page,
    "Kotlin": functools.partial(kit, "kotlin"),
    "Swift": functools.partial(kit, "swift"),
}
