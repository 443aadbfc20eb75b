"""Measures every photograph of a data set once: size, brightness, sharpness, hashes and a thumbnail."""

from __future__ import annotations

import collections
import concurrent.futures
import hashlib
import io
import os
import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from sqznet.core import console, startup
from sqznet.core.errors import InputError, Reject, TryAgain
from sqznet.data import build_pool
from sqznet.data.manifest import SPLITS
from sqznet.data.survey.photographs import Content, Named, Photographs
from sqznet.images import decode

THUMBNAIL = 64  # side of the grey thumbnails in pixels
MEASURED = 256  # longest side in pixels at which sharpness is measured
# Each photograph has a hash for each of these crops, plain and mirrored, and the first one is that of the whole
# photograph. A crop is: share of the side, left and top as shares of the cut margin.
CROPS = ((1.0, 0, 0), (0.95, 0.5, 0.5), (0.95, 0, 0), (0.95, 0, 1), (0.95, 1, 0), (0.95, 1, 1), (0.9, 0.5, 0.5))
VARIANTS = 2 * len(CROPS)
_WINDOW = 16  # photographs that are read ahead for each process
_LEAST_OF_A_WORKER = 500  # photographs; with fewer, the start of a process takes longer than the work
_LAPLACIAN_EDGE = 3  # a photograph with fewer pixels on a side has no Laplacian


@dataclass
class Survey:
    """The measures of all readable photographs. Row i of each array belongs to `names[i]`."""

    photographs: Photographs
    names: list[Named]
    numbers: np.ndarray  # of each photograph in `photographs`, int64 (n,)
    sizes: np.ndarray  # width and height in pixels, int32 (n, 2)
    encoded_bytes: np.ndarray  # of the encoded photograph, int64 (n,)
    brightness: np.ndarray  # mean grey, 0 to 255, float32 (n,)
    sharpness: np.ndarray  # variance of the Laplacian (Pech-Pacheco et al. 2000), float32 (n,)
    digests: list[bytes]  # BLAKE2b of the content, 16 bytes
    hashes: np.ndarray  # perceptual hashes, uint64 (n, VARIANTS)
    thumbnails: np.ndarray  # grey, uint8 (n, THUMBNAIL, THUMBNAIL)
    unreadable: list[tuple[Named, str]] = field(default_factory=list)  # with the reason

    @property
    def classes(self) -> tuple[str, ...]:
        return self.photographs.classes

    @property
    def splits(self) -> list[str]:
        present = {name.split for name in self.names}
        return [split for split in SPLITS if split in present]


def survey(photographs: Photographs, max_pixels: int = decode.MAX_PIXELS) -> Survey:
    """Measures every photograph, in several processes if there are many. Memory: about 500 bytes for each photograph.

    The thumbnails are in a temporary file, of 4 GB for a million photographs.

    Args:
        max_pixels: larger photographs are not read, as in a build.

    Raises:
        InputError: no photograph can be read, or ImageHash is not installed.
    """
    _perceptual_hash()  # raises InputError before the work
    n = photographs.total
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the array keeps it open
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would kill the process later
        os.posix_fallocate(file.fileno(), 0, max(1, n) * THUMBNAIL**2)
    found = Survey(
        photographs,
        [],
        np.zeros(n, np.int64),
        np.zeros((n, 2), np.int32),
        np.zeros(n, np.int64),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
        [],
        np.zeros((n, VARIANTS), np.uint64),
        np.memmap(file, np.uint8, "w+", shape=(max(1, n), THUMBNAIL, THUMBNAIL)),
    )
    for number, named, measures in _measured(photographs, max_pixels):
        if isinstance(measures, Reject):
            found.unreadable.append((named, str(measures)))
            continue
        row = len(found.names)
        found.names.append(named)
        found.numbers[row] = number
        found.digests.append(measures.digest)
        found.sizes[row], found.encoded_bytes[row] = measures.size, measures.encoded_bytes
        found.brightness[row], found.sharpness[row] = measures.brightness, measures.sharpness
        found.hashes[row], found.thumbnails[row] = measures.hashes, measures.thumbnail
    rows = len(found.names)
    if not rows:
        raise InputError(f"{photographs.where}: no photograph can be read")
    for name in ("numbers", "sizes", "encoded_bytes", "brightness", "sharpness", "hashes", "thumbnails"):
        setattr(found, name, getattr(found, name)[:rows])
    return found


def _measured(photographs: Photographs, max_pixels: int) -> Iterator[tuple[int, Named, Measures | Reject]]:
    workers = min(startup.cores(), photographs.total // _LEAST_OF_A_WORKER)
    waiting: collections.deque = collections.deque()
    # Threads would share one core, because most of the work is Python code.
    pool = build_pool.processes(workers) if workers > 1 else concurrent.futures.ThreadPoolExecutor(1)
    with pool, console.progress("images/s") as bar:
        task = bar.add_task(f"reading {photographs.where}", total=photographs.total)

        def next_done():
            number, named, future = waiting.popleft()
            bar.advance(task)
            try:
                return number, named, future.result()
            except BrokenProcessPool:
                raise TryAgain(
                    "a worker process was killed, perhaps because the memory was full: run the command again"
                ) from None

        for number, named, content in photographs.read():
            waiting.append((number, named, pool.submit(measure, content, max_pixels)))
            if len(waiting) > max(1, workers) * _WINDOW:
                yield next_done()
        while waiting:
            yield next_done()


@dataclass(frozen=True)
class Measures:
    """The measures of one photograph; see `Survey`."""

    size: tuple[int, int]
    encoded_bytes: int
    brightness: float
    sharpness: float
    digest: bytes
    hashes: list[int]
    thumbnail: np.ndarray


def measure(content: Content, max_pixels: int = decode.MAX_PIXELS) -> Measures | Reject:
    """Measures one photograph. Returns a Reject if it cannot be decoded."""
    pixels = _pixels(content, max_pixels)
    if isinstance(pixels, Reject):
        return pixels
    stored = content if isinstance(content, bytes) else pixels.tobytes()
    height, width, _ = pixels.shape
    grey = Image.fromarray(pixels).convert("L")
    thumbnail = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    grey.thumbnail((MEASURED, MEASURED), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32)
    return Measures(
        (width, height),
        len(stored),
        float(values.mean()),
        _sharpness(values),
        hashlib.blake2b(stored, digest_size=16).digest(),
        _hashes(thumbnail),
        np.asarray(thumbnail),
    )


def _pixels(content: Content, max_pixels: int = decode.MAX_PIXELS) -> np.ndarray | Reject:
    """Returns upright RGB pixels, uint8 (height, width, 3)."""
    if isinstance(content, OSError):
        return Reject(content.strerror or str(content))
    try:
        return content if isinstance(content, np.ndarray) else decode.to_pixels(content, max_pixels=max_pixels)
    except Reject as reason:
        return reason


def _sharpness(grey: np.ndarray) -> float:
    if min(grey.shape) < _LAPLACIAN_EDGE:
        return 0.0
    centre = grey[1:-1, 1:-1]
    return float((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre).var())


def _hashes(thumbnail: Image.Image) -> list[int]:
    """Returns the hashes of a thumbnail for each of CROPS: plain, then mirrored."""
    phash, found = _perceptual_hash(), []
    for share, x, y in CROPS:
        side, margin = THUMBNAIL * share, THUMBNAIL * (1 - share)
        box = (margin * x, margin * y, margin * x + side, margin * y + side)
        crop = thumbnail.resize((32, 32), Image.Resampling.LANCZOS, box=box)
        for each in (crop, crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            bits = np.packbits(phash(each).hash.ravel())
            found.append(int.from_bytes(bits.tobytes(), "big"))
    return found


def _perceptual_hash():
    try:
        import imagehash
    except ImportError:
        raise InputError("--report needs the package ImageHash: pip install 'sqznet[report]'") from None
    return imagehash.phash


def pictures(
    photographs: Photographs, numbers: Collection[int], side: int, max_pixels: int = decode.MAX_PIXELS
) -> dict[int, bytes]:
    """Returns JPEGs of some photographs, shrunk to `side` pixels on their longest side, by number."""
    found = {}
    with console.progress("images/s") as bar:
        task = bar.add_task("drawing the pictures", total=len(numbers))
        for number, _, content in photographs.read(numbers):
            bar.advance(task)
            pixels = _pixels(content, max_pixels)
            if not isinstance(pixels, Reject):  # else the file has changed since the survey
                image, buffer = Image.fromarray(pixels), io.BytesIO()
                image.thumbnail((side, side), Image.Resampling.LANCZOS)
                image.save(buffer, "JPEG", quality=80)
                found[number] = buffer.getvalue()
    return found
