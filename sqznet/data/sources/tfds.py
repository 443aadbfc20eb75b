"""`tfds:NAME`: a set of TensorFlow Datasets, its images left encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqznet.data.sources.folder import open_folder
from sqznet.data.sources.listing import SPLIT_FOLDERS, Photo, Source, Splits
from sqznet.errors import InputError


@dataclass
class TfdsSource:
    """A prepared TensorFlow Datasets set, its images left encoded."""

    folder: Path
    classes: list[str]
    splits: Splits
    tfds_split: dict[str, str]  # ours to theirs
    notes: list[str]
    in_order: bool = True  # TFDS shuffles when it prepares a set

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        split = photos[0].key.partition("[")[0]
        first, last = photos[0].position, photos[-1].position
        assert [photo.position for photo in photos] == sorted(photo.position for photo in photos)
        wanted = {photo.position for photo in photos}
        stream = _tfds_examples(self.folder, f"{split}[{first}:{last + 1}]")
        for position, example in enumerate(stream, start=first):
            if position in wanted:
                yield example["image"]


def _tfds_examples(folder: Path, split: str) -> Iterator[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False, read_config=in_order
    )
    yield from dataset.as_numpy_iterator()


def open_tfds(name: str, seed: int) -> Source:
    import tensorflow_datasets as tfds

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "dataset_info.json").is_file():
        # tfds.ImageFolder: <split>/<class>/*, nothing prepared; its files can be read as they lie.
        return open_folder(path, seed)
    try:
        builder = tfds.builder_from_directory(path) if path.is_dir() else tfds.builder(name)
        builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError, OSError) as error:
        raise InputError(f"tfds cannot provide {name!r}: {type(error).__name__}: {error}") from error
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"tfds {name!r} is no image-classification set: its features are {', '.join(features)}")
    ours = {SPLIT_FOLDERS[split]: split for split in builder.info.splits if split in SPLIT_FOLDERS}
    splits: Splits = {}
    notes = []
    for split, theirs in ours.items():
        labels = [int(example["label"]) for example in _tfds_examples(Path(builder.data_dir), theirs)]
        if min(labels) < 0:
            notes.append(f"{theirs}: not labelled, left out")
            continue
        splits[split] = [Photo(f"{theirs}[{index}]", label, index) for index, label in enumerate(labels)]
    return TfdsSource(Path(builder.data_dir), list(features["label"].names), splits, ours, notes)
