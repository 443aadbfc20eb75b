"""Reads `tfds:NAME`: a set of TensorFlow Datasets. The images stay encoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources.folder import open_folder
from sqznet.data.sources.listing import Photo, Source, Splits, require_ascending, split_of

FILENAME = ("file_name", "filename", "image/filename", "image/file_name")


@dataclass
class TfdsSource(Source):
    in_order: ClassVar[bool] = True  # TFDS shuffles when it prepares a set
    folder: Path

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        for split, some in itertools.groupby(photos, lambda photo: photo.key.partition("[")[0]):
            positions = [photo.position for photo in some]
            require_ascending(positions)
            wanted = set(positions)
            stream = _examples(self.folder, f"{split}[{positions[0]}:{positions[-1] + 1}]")
            for position, example in enumerate(stream, start=positions[0]):
                if position in wanted:
                    yield example["image"]


def _examples(folder: Path, split: str) -> Iterator[dict]:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False, read_config=in_order
    )
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise InputError(f"{folder}, {split}: a record is corrupt: {reason}; prepare the set again") from None


def open_tfds(name: str, seed: int, draw_test: bool = True) -> Source:
    """Opens the set with this name, or in this folder.

    Args:
        draw_test: whether to draw a test split from a folder of photographs without splits.
    """
    import tensorflow_datasets as tfds

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "dataset_info.json").is_file():
        return open_folder(path, seed, draw_test)  # a tfds.ImageFolder, <split>/<class>/*, is not prepared
    try:
        builder = tfds.builder_from_directory(path) if path.is_dir() else tfds.builder(name)
        builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError, OSError) as error:
        raise InputError(f"tfds cannot provide {name!r}: {type(error).__name__}: {error}") from error
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"tfds {name!r} is not an image-classification set: its features are {', '.join(features)}")
    folder = Path(builder.data_dir)
    splits: Splits = {}
    tfds_name: dict[str, str] = {}  # of each split
    notes = []
    for tfds_split, info in builder.info.splits.items():
        split = split_of(tfds_split)
        if split is None or split in tfds_name:
            why = "is not a train, validation or test split"
            if split is not None:
                why = f"would be {split}, as {tfds_name[split]} is"
            notes.append(f"{tfds_split}, with {counted(info.num_examples, 'photograph')}, was left out: it {why}")
            continue
        tfds_name[split] = tfds_split
        listed = [
            Photo(f"{tfds_split}[{index}]", int(example["label"]), index, _filename(example))
            for index, example in enumerate(_examples(folder, tfds_split))
        ]
        splits[split] = [photo for photo in listed if photo.label >= 0]
        if len(splits[split]) < len(listed):
            unlabelled = counted(len(listed) - len(splits[split]), "photograph")
            notes.append(f"{tfds_split}: {unlabelled} not labelled, left out")
    return TfdsSource(list(features["label"].names), splits, notes, folder)


def _filename(example: dict) -> str:
    """Returns the photograph's own file name, if the set contains it."""
    values = (example.get(key) for key in FILENAME)
    return next((value.decode(errors="surrogateescape") for value in values if value and isinstance(value, bytes)), "")
