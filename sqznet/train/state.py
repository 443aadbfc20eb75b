"""Stores the progress of a run: the counters and the history of its epochs. Writes CSV files from the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.runs.best import Line
from sqznet.train.loop import Sums

METRIC_COLUMNS = (
    "epoch", "image_size", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5",
    "val_balanced_accuracy", "val_macro_f1",
)  # fmt: skip
TIMING_COLUMNS = ("epoch", "images_per_second", "seconds")  # in a file of their own: the metrics are reproducible


@dataclass
class RunState:
    """Contains everything in a checkpoint except the variables."""

    step: int = 0  # updates done
    sums: Sums = field(default_factory=Sums)  # over the current epoch
    seconds: float = 0.0  # spent in the current epoch
    kept_epoch: int = 0  # the epoch of best.keras; 0 before the first evaluation
    history: list[Line] = field(default_factory=list)  # the lines of metrics.csv and timings.csv

    @property
    def kept(self) -> Line | None:
        """The line of the epoch of best.keras."""
        return self.history[self.kept_epoch - 1] if self.kept_epoch else None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "sums": vars(self.sums)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunState:
        fields = {**content, "sums": Sums(**content["sums"])}
        if "best_top1" in fields:  # Version 0.2 kept the first epoch with the highest top-1.
            top1 = fields.pop("best_top1")
            epochs = (line["epoch"] for line in fields["history"] if line.get("val_top1") == top1)
            fields["kept_epoch"] = next(epochs, 0)
        return cls(**fields)

    def write_history(self, run_dir: Path) -> None:
        """Writes metrics.csv and timings.csv."""
        for name, columns in (("metrics.csv", METRIC_COLUMNS), ("timings.csv", TIMING_COLUMNS)):
            files.write_csv(run_dir / name, columns, ([line.get(key) for key in columns] for line in self.history))
