"""`synthetic`: the built-in demo set, drawn when read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqznet.data import synthetic
from sqznet.data.sources.listing import Photo, Splits


@dataclass
class SyntheticSource:
    """The built-in demo set: drawn when read."""

    seed: int
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = False

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        for photo in photos:
            yield synthetic.draw(photo.key, photo.label, self.seed)


def open_synthetic(seed: int) -> SyntheticSource:
    splits = {
        split: [
            Photo(f"{split}/{name}/{index:05d}", label)
            for label, name in enumerate(synthetic.CLASSES)
            for index in range(count)
        ]
        for split, count in synthetic.PER_CLASS.items()
    }
    return SyntheticSource(seed, list(synthetic.CLASSES), splits, [])
