"""Finds exact duplicates by a hash of the content, and near duplicates by perceptual hashes and thumbnails.

A near duplicate was recompressed, resized, mirrored, or cropped by up to a tenth of its side. Candidates are pairs with
similar perceptual hashes (pHash of ImageHash: the signs of the lowest frequencies of the cosine transform). The
thumbnails of a candidate pair are then compared at each crop.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sqznet.core import console
from sqznet.data.survey.measures import THUMBNAIL, Survey

EXACT, NEAR = "exact", "near"
LARGEST_DISTANCE = 8  # bits of 64 that may differ between the hashes of a candidate pair
BANDS = 6  # parts of a hash: a candidate pair has at least one equal part
LEAST_SIMILARITY = 0.7  # of two thumbnails; see benchmarks/experiments/dataset-check.md
_LEAST_DETAIL = 1e-3  # so that the details of even surfaces, which are 0, are not divided by 0
SHARES = (0.95, 0.9)  # of a side that a crop may keep
MOST_CANDIDATES = 500_000  # pairs whose thumbnails are compared
_BLOCK = 4_096  # hashes that are compared with one another in one call
_PRIORITY = {"test": 0, "val": 1, "train": 2}  # of two duplicates, the one with the smaller number is kept


@dataclass(frozen=True)
class Pair:
    """Two photographs of a survey, by row. `kept` stays in the set if duplicates are excluded."""

    kept: int
    other: int
    kind: str  # EXACT or NEAR
    similarity: float  # correlation of the details of the thumbnails; 1 for exact duplicates

    def is_leak(self, survey: Survey) -> bool:
        """Whether the photographs are in different splits."""
        return survey.names[self.kept].split != survey.names[self.other].split

    def is_conflict(self, survey: Survey) -> bool:
        """Whether the photographs are in one split, with different classes. The user decides which one is dropped."""
        one, other = survey.names[self.kept], survey.names[self.other]
        return one.split == other.split and one.label != other.label


def find(survey: Survey) -> list[Pair]:
    """Returns a pair for each photograph that is a duplicate of another one that is kept.

    Of duplicates, one of test is kept before one of val, and one of val before one of train. In a split, the first one
    is kept. A photograph with another class in the same split as its duplicate counts as kept too.
    """
    order = sorted(range(len(survey.names)), key=lambda row: (_PRIORITY[survey.names[row].split], row))
    copies: dict[bytes, list[int]] = {}
    for row in order:
        copies.setdefault(survey.digests[row], []).append(row)
    rows = np.array([some[0] for some in copies.values()], np.int64)  # in order of priority
    neighbours: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for a, b, similarity in _near(survey, rows):
        neighbours[max(a, b)].append((min(a, b), similarity))  # places in `rows`
    pairs = []
    dropped = set()  # places whose photograph the user need not decide about
    for place, (first, *others) in enumerate(copies.values()):
        kept = [(similarity, -other) for other, similarity in neighbours[place] if other not in dropped]
        if not kept:
            pairs += [Pair(first, row, EXACT, 1.0) for row in others]
            continue
        similarity, other = max(kept)
        # The exact copies are near duplicates of the same photograph, perhaps in other splits or classes.
        found = [Pair(int(rows[-other]), row, NEAR, similarity) for row in (first, *others)]
        pairs += found
        if not found[0].is_conflict(survey):
            dropped.add(place)
    return pairs


def _near(survey: Survey, rows: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yields each near pair (places in `rows`) with its similarity."""
    candidates = candidate_pairs(survey.hashes[rows])
    if len(candidates) == MOST_CANDIDATES:
        console.say(
            f"note: more than {MOST_CANDIDATES:,} pairs have similar hashes, as in films; the most similar pairs are "
            "compared"
        )
    with console.progress("pairs/s") as bar:
        task = bar.add_task("comparing similar photographs", total=len(candidates))
        for a, b in candidates:
            similarity = similarity_of(survey.thumbnails[rows[a]], survey.thumbnails[rows[b]])
            if similarity >= LEAST_SIMILARITY:
                yield int(a), int(b), similarity
            bar.advance(task)


def candidate_pairs(hashes: np.ndarray) -> np.ndarray:
    """Returns the pairs with similar hashes, the most similar first: int64 (pairs, 2), the smaller number first.

    At most MOST_CANDIDATES pairs are returned, and the memory is bounded by a multiple of this number.

    A pair is similar if the first hash of a photograph and any hash of the other differ by LARGEST_DISTANCE bits or
    less and have an equal band. The work grows with the square of the photographs divided by 2^9.

    Args:
        hashes: uint64 (n, variants).
    """
    n = len(hashes)
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    found = np.zeros(0, np.int64)  # distance, first and second number in one integer: the most similar pairs first
    new: list[np.ndarray] = []
    waiting = 0  # pairs in `new`
    with console.progress("parts/s") as bar:
        task = bar.add_task("comparing hashes", total=hashes.shape[1] * BANDS)
        for variant in hashes.T:
            for low, high in itertools.pairwise(edges):
                for a, b, distance in _equal_in_band(hashes[:, 0], variant, low, high):
                    keys = (distance.astype(np.int64) * n + np.minimum(a, b)) * n + np.maximum(a, b)
                    new.append(keys[a != b])
                    waiting += len(new[-1])
                    if waiting > MOST_CANDIDATES:
                        found, new, waiting = _most_similar([found, *new], n), [], 0
                bar.advance(task)
    pairs = _most_similar([found, *new], n) % max(1, n * n)
    return np.stack([pairs // max(1, n), pairs % max(1, n)], axis=1)


def _most_similar(parts: list[np.ndarray], n: int) -> np.ndarray:
    """Returns at most MOST_CANDIDATES keys of `candidate_pairs`, sorted, each pair once with its least distance."""
    keys = np.unique(np.concatenate(parts))
    _, first = np.unique(keys % max(1, n * n), return_index=True)
    return np.sort(keys[first])[:MOST_CANDIDATES]


def _equal_in_band(
    one: np.ndarray, other: np.ndarray, low: int, high: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields numbers, numbers and distances of the similar hashes that have equal bits from `low` to `high`."""
    mask = np.uint64((1 << int(high - low)) - 1)
    parts = [(each >> np.uint64(low)) & mask for each in (one, other)]
    orders = [np.argsort(part, kind="stable") for part in parts]
    values = np.intersect1d(parts[0], parts[1])
    bounds = [
        [np.searchsorted(part[order], values, side) for side in ("left", "right")]
        for part, order in zip(parts, orders, strict=True)
    ]
    for index in range(len(values)):
        mine, theirs = (order[bound[0][index] : bound[1][index]] for order, bound in zip(orders, bounds, strict=True))
        for start in range(0, len(mine), _BLOCK):
            some = mine[start : start + _BLOCK]
            for at in range(0, len(theirs), _BLOCK):
                others = theirs[at : at + _BLOCK]
                distance = np.bitwise_count(one[some][:, None] ^ other[others][None])
                a, b = np.nonzero(distance <= LARGEST_DISTANCE)
                yield some[a], others[b], distance[a, b]


def similarity_of(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest correlation of the details of two thumbnails, over crops of either one and a mirror image.

    The details of a thumbnail are its difference from its blurred copy. Photographs of similar scenes have similar
    large areas, but other details.

    Args:
        one, other: grey, uint8 (THUMBNAIL, THUMBNAIL).

    Returns:
        -1 to 1.
    """
    one, other = one.astype(np.float32), other.astype(np.float32)
    best = -1.0
    for each in (other, other[:, ::-1]):
        best = max(best, _best_crop(one, each), _best_crop(each, one))
    return best


def _best_crop(whole: np.ndarray, cropped: np.ndarray) -> float:
    rows, columns = _windows()
    crops = (rows @ _details(whole) @ columns).reshape(len(rows), -1)
    details = _details(cropped).ravel()
    lengths = np.linalg.norm(crops, axis=1) * np.linalg.norm(details)
    return float((crops @ details / np.maximum(lengths, _LEAST_DETAIL)).max())


def _details(values: np.ndarray) -> np.ndarray:
    """Returns a thumbnail without what is left after a blur over 5 x 5 pixels."""
    blur = _blur()
    return values - blur @ values @ blur.T


@functools.cache
def _blur() -> np.ndarray:
    """Returns the matrix of the mean over 5 pixels of a line, whose ends are repeated, float32 (64, 64)."""
    places = np.clip(np.arange(THUMBNAIL)[:, None] + np.arange(-2, 3), 0, THUMBNAIL - 1)
    matrix = np.zeros((THUMBNAIL, THUMBNAIL), np.float32)
    np.add.at(matrix, (np.arange(THUMBNAIL)[:, None], places), 1 / 5)
    return matrix


@functools.cache
def _windows() -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices that cut and scale a thumbnail: rows (crops, 64, 64) and columns, transposed.

    A crop keeps the same share of both sides, or one whole side.
    """
    whole = _scaling(1.0, 0.0)
    windows = [(whole, whole)]
    for share in SHARES:
        parts = [_scaling(share, (1 - share) * at) for at in np.linspace(0, 1, 5)]
        windows += itertools.product([*parts, whole], [*parts, whole])
    rows, columns = zip(*windows, strict=True)
    return np.stack(rows), np.stack([each.T for each in columns])


def _scaling(share: float, start: float) -> np.ndarray:
    """Returns the matrix that scales a part of a line to the whole line, linearly, float32 (64, 64)."""
    at = (np.arange(THUMBNAIL) + 0.5) * share + start * THUMBNAIL - 0.5
    return np.maximum(0, 1 - np.abs(np.clip(at, 0, THUMBNAIL - 1)[:, None] - np.arange(THUMBNAIL))).astype(np.float32)
