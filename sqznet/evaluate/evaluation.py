"""Defines the result of an evaluation: accuracy with its data, split and n, as a table, JSON or HTML."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, metrics, notebook, remote
from sqznet.core.metrics import Score
from sqznet.data import provenance, sources
from sqznet.data.manifest import Manifest
from sqznet.network import labels
from sqznet.predict.inference import Predictor
from sqznet.runs import run_folder

COLUMNS = ("data", "split", "n", "measure", "accuracy", "95 % interval")  # of `Evaluation.rows`


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Contains the accuracy of a model on all records of a split. `print` shows it as a table."""

    score: Score
    predictor: Predictor
    manifest: Manifest
    split: str
    """The evaluated split."""

    @property
    def n(self) -> int:
        """The number of records."""
        return self.score.n

    @property
    def top1(self) -> float:
        """Rank-1 accuracy, 0 to 1."""
        return self.score.top1

    @property
    def top5(self) -> float:
        """Rank-5 accuracy, 0 to 1. It is always 1 if there are up to five classes."""
        return self.score.top5

    @property
    def top1_interval(self) -> tuple[float, float]:
        """The 95 % score interval of `top1` (Wilson 1927)."""
        return self.score.top1_interval

    @property
    def top5_interval(self) -> tuple[float, float]:
        """The 95 % score interval of `top5` (Wilson 1927)."""
        return self.score.top5_interval

    @property
    def by_class(self) -> dict[str, float]:
        """Rank-1 accuracy of each class that has records, 0 to 1."""
        names = labels.readable(self.predictor.card.classes or self.manifest.classes)
        rows = zip(names, self.score.confusion, strict=True)
        return {name: float(row[i] / row.sum()) for i, (name, row) in enumerate(rows) if row.sum()}

    @functools.cached_property
    def note(self) -> str | None:
        """A warning about the data, for example that the network has seen the photographs in its training.

        None means no warning.
        """
        notes = [
            _contamination(self.predictor, self.manifest, self.split),
            _changed_since(self.predictor.path, self.manifest),
        ]
        return "; ".join(filter(None, notes)) or None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON report. Its `confusion` lists [true output, predicted output, records]."""
        score, predictor, manifest = self.score, self.predictor, self.manifest
        return {
            "model": remote.published(predictor.path),
            "data": remote.published(manifest.folder),
            "listing_sha256": manifest.content.get("listing_sha256"),
            "source": sources.published(manifest.content["source"]),
            "split": self.split,
            "n": score.n,
            "top1": score.top1,
            "top1_interval_95": score.top1_interval,
            "top5": score.top5,
            "top5_interval_95": score.top5_interval,
            "pretrained_on": predictor.card.pretrained_on,
            "note": self.note,
            "geometry_override": predictor.geometry or None,
            "preprocessing": predictor.card.preprocessing.to_dict(),
            "classes": list(predictor.card.classes or manifest.classes),
            "confusion": [
                [*map(int, pair), int(score.confusion[tuple(pair)])] for pair in np.argwhere(score.confusion)
            ],
        }

    def rows(self) -> list[list[Any]]:
        """Returns the rows of the table with `COLUMNS`."""
        measures = {
            "rank-1 (top-1)": (self.top1, self.top1_interval),
            "rank-5 (top-5)": (self.top5, self.top5_interval),
        }
        shown = len(metrics.ranks(len(self.score.confusion)))
        return [
            [self.manifest.folder, self.split, self.n, name, console.percent(share), shown_interval(interval)]
            for name, (share, interval) in list(measures.items())[:shown]
        ]

    def __str__(self) -> str:
        table = console.table_text(COLUMNS, self.rows(), title=str(self.predictor.path))
        return table + (f"\nnote: {self.note}" if self.note else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return notebook.table(COLUMNS, self.rows(), str(self.predictor.path)) + notebook.paragraph(self.note)


def _contamination(predictor: Predictor, manifest: Manifest, split: str) -> str | None:
    """Returns a warning if the network has, or may have, been trained on these photographs."""
    if predictor.card.pretrained_on is None:
        return None
    seen = provenance.imagenet_train_photographs(manifest, split)
    if not seen:
        return None
    return (
        f"{seen:,} of {manifest.records(split):,} records of {split} are named like ImageNet train photographs, and "
        f"the published weights of this model were trained on {predictor.card.pretrained_on}: this is the accuracy on "
        "photographs seen in training, which says little about new ones"
    )


def _changed_since(model: Path, manifest: Manifest) -> str | None:
    """Returns a warning if a run's data was built again (`sqznet.data --update`) after the run was trained on it."""
    run = model if model.is_dir() else model.parent
    if not (run / run_folder.CONFIG).is_file():
        return None
    config = run_folder.load_config(run)
    if "train_records" not in config or Path(config["data"]).resolve() != Path(manifest.folder).resolve():
        return None
    trained_with = config["train_records"], tuple(config["data_channel_means"])
    if trained_with == (manifest.records("train"), manifest.channel_means):
        return None
    return (
        f"{manifest.folder} has changed since {run} was trained on it ({trained_with[0]:,} training records then, "
        f"{manifest.records('train'):,} now): photographs that it was trained on may be in this split now; train again"
    )


def shown_interval(interval: tuple[float, float]) -> str:
    """Formats an interval of shares in per cent."""
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"
