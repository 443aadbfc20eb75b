"""`tfds:NAME`: a set of TensorFlow Datasets, its images left encoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqznet.core.console import counted
from sqznet.core.errors import InputError
from sqznet.data.sources.folder import open_folder
from sqznet.data.sources.listing import Photo, Source, Splits, require_rising, split_of


@dataclass
class TfdsSource:
    """A prepared TensorFlow Datasets set, its images left encoded."""

    folder: Path
    classes: list[str]
    splits: Splits
    notes: list[str]
    in_order: bool = True  # TFDS shuffles when it prepares a set

    def read(self, photos: list[Photo]) -> Iterator[bytes]:
        for split, some in itertools.groupby(photos, lambda photo: photo.key.partition("[")[0]):
            positions = [photo.position for photo in some]
            require_rising(positions)
            wanted = set(positions)
            stream = _tfds_examples(self.folder, f"{split}[{positions[0]}:{positions[-1] + 1}]")
            for position, example in enumerate(stream, start=positions[0]):
                if position in wanted:
                    yield example["image"]


def _tfds_examples(folder: Path, split: str) -> Iterator[dict]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False, read_config=in_order
    )
    import tensorflow as tf

    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise InputError(f"{folder}, {split}: a record is corrupt: {reason}; prepare the set again") from None


def open_tfds(name: str, seed: int, invent_test: bool = True) -> Source:
    """The set of that name, or of that folder.

    Args:
        invent_test: of a folder of photographs without splits, whether some are drawn for a test split.
    """
    import tensorflow_datasets as tfds

    path = Path(name).expanduser()
    if path.is_dir() and not (path / "dataset_info.json").is_file():
        # tfds.ImageFolder: <split>/<class>/*, nothing prepared; its files can be read as they lie.
        return open_folder(path, seed, invent_test)
    try:
        builder = tfds.builder_from_directory(path) if path.is_dir() else tfds.builder(name)
        builder.download_and_prepare()
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError, OSError) as error:
        raise InputError(f"tfds cannot provide {name!r}: {type(error).__name__}: {error}") from error
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise InputError(f"tfds {name!r} is no image-classification set: its features are {', '.join(features)}")
    splits: Splits = {}
    ours: dict[str, str] = {}
    notes = []
    for theirs, info in builder.info.splits.items():
        split = split_of(theirs)
        if split is None or split in ours:
            why = "is no train, validation or test split" if split is None else f"would be {split}, as {ours[split]} is"
            notes.append(f"{theirs}, with {counted(info.num_examples, 'photograph')}, was left out: it {why}")
            continue
        listed = [
            Photo(f"{theirs}[{index}]", int(example["label"]), index, _filename(example))
            for index, example in enumerate(_tfds_examples(Path(builder.data_dir), theirs))
        ]
        splits[split] = [photo for photo in listed if photo.label >= 0]
        if len(splits[split]) < len(listed):
            unlabelled = counted(len(listed) - len(splits[split]), "photograph")
            notes.append(f"{theirs}: {unlabelled} not labelled, left out")
        ours[split] = theirs
    return TfdsSource(Path(builder.data_dir), list(features["label"].names), splits, notes)


def _filename(example: dict) -> str:
    """The photograph's own name, where the set has kept it."""
    for key in ("file_name", "filename", "image/filename", "image/file_name"):
        value = example.get(key)
        if isinstance(value, bytes) and value:
            return value.decode(errors="surrogateescape")
    return ""
