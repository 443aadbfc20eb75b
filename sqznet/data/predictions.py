"""Reads and writes predictions of a split: the probabilities of a model for each record, in a NumPy .npz file.

`evaluate --predictions` writes the file, and `data --report` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sqznet.core import files
from sqznet.core.errors import InputError

_KINDS = {"split": "U", "held_out": "b", "classes": "U", "files": "U", "labels": "i", "probabilities": "f"}


@dataclass(frozen=True)
class Predictions:
    """The probabilities of a model for the records of a split."""

    split: str
    held_out: bool  # whether the model was not trained on these records
    classes: tuple[str, ...]  # of the data, in the order of the labels
    files: list[str]  # image/filename of each record
    labels: np.ndarray  # int64 (n,)
    probabilities: np.ndarray  # of the classes of the data, float32 (n, classes)


def save(predictions: Predictions, path: Path) -> None:
    """Writes the file (an atomic write)."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            split=np.array(predictions.split),
            held_out=np.array(predictions.held_out),
            classes=np.array(predictions.classes),
            files=np.array(predictions.files),
            labels=predictions.labels.astype(np.int64),
            probabilities=predictions.probabilities.astype(np.float32),
        )


def load(path: Path) -> Predictions:
    """Reads the file.

    Raises:
        InputError: there is no such file, or `save` did not write it.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: content[name] for name in _KINDS}
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except Exception as error:  # NumPy and zipfile raise many types on a damaged file
        raise InputError(
            f"{path} cannot be read as predictions ({type(error).__name__}: {error}); "
            "python -m sqznet.evaluate --predictions=FILE.npz writes such a file"
        ) from None
    n, count = len(np.atleast_1d(found["files"])), found["classes"].size
    shapes = {"split": (), "held_out": (), "classes": (count,), "files": (n,), "labels": (n,)}
    for name, shape in (shapes | {"probabilities": (n, count)}).items():
        if found[name].shape != shape or found[name].dtype.kind != _KINDS[name]:
            raise InputError(
                f"{path}: {name} is {found[name].dtype} with shape {found[name].shape}; expected shape {shape}. "
                "python -m sqznet.evaluate --predictions=FILE.npz writes such a file"
            )
    labels, probabilities = found["labels"], found["probabilities"]
    if not np.isfinite(probabilities).all() or (n and not 0 <= labels.min() <= labels.max() < count):
        raise InputError(f"{path}: a probability is not a number, or a label is outside 0..{count - 1}")
    return Predictions(
        str(found["split"]),
        bool(found["held_out"]),
        tuple(map(str, found["classes"])),
        [str(each) for each in found["files"]],
        labels,
        probabilities,
    )
