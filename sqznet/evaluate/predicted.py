"""Makes the file of `evaluate --predictions`: the probabilities of every record of a split, with the file names."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from sqznet.core import console, remote
from sqznet.data import predictions
from sqznet.data.manifest import Manifest
from sqznet.data.survey.photographs import Stored
from sqznet.network.keras_file import Card


def write(path: Path, kept: list[np.ndarray], manifest: Manifest, split: str, card: Card) -> None:
    """Writes the file.

    Args:
        kept: the probabilities of `scoring.evaluate`.
        card: of the model. If the model may have been trained on `manifest`, its predictions for train are not held
            out.
    """
    with console.doing("reading the names of the photographs"):
        names = Stored(manifest).names(split)
    predictions.save(
        predictions.Predictions(
            split,
            split != "train" or not _may_have_seen(card, manifest),
            manifest.classes,
            [name.file for name in names],
            np.array([name.label for name in names], np.int64),
            np.concatenate(kept),
        ),
        path,
    )
    console.result(f"predictions: {path}")


def _may_have_seen(card: Card, manifest: Manifest) -> bool:
    """Checks whether a model may have been trained on a set: its data has the same name, or no name is known.

    Exported files and earlier versions do not name the data. Published weights were trained on other data.
    """
    if card.data is None:
        return card.weights is None
    return PurePosixPath(card.data).name == PurePosixPath(remote.published(manifest.folder)).name
