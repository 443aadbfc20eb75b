"""Makes the file of `evaluate --predictions`: the probabilities of every record of a split, with the file names."""

from __future__ import annotations

from pathlib import Path

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
        card: of the model. If the model was trained on `manifest`, its predictions for train are not held out.
    """
    with console.doing("reading the names of the photographs"):
        names = Stored(manifest).names(split)
    predictions.save(
        predictions.Predictions(
            split,
            split != "train" or card.data != remote.published(manifest.folder),
            manifest.classes,
            [name.file for name in names],
            np.array([name.label for name in names], np.int64),
            np.concatenate(kept),
        ),
        path,
    )
    console.result(f"predictions: {path}")
