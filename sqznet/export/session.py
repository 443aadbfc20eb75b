"""Runs one export: chooses the variants, finds the data, and writes the bundle under a lock.

The command `sqznet.export` and `Classifier.export` call `export_model`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from sqznet.core import console, files, locks, notebook, threshold, typed
from sqznet.core.errors import InputError
from sqznet.data import manifest as manifests
from sqznet.export import bundle, check, variants, verify
from sqznet.export.variants import Variant
from sqznet.network.keras_file import Card
from sqznet.runs import run_folder

ARTIFACTS = Path("export/artifacts")
BUDGET = 5 * 2**20  # bytes: 5 MiB
RECORDS = 5000
MAX_DROP = 0.01


@dataclass(frozen=True, repr=False)
class Bundle:
    """Describes an exported folder. `print` shows the size and the accuracy of each file as a table."""

    folder: Path
    """The folder of the bundle."""
    exported: list[bundle.ExportedFile]
    against: verify.Reference
    budget: int

    @property
    def files(self) -> list[Path]:
        """The model files of this export."""
        return [self.folder / each.variant.file_name for each in self.exported]

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return typed.read_json(self.folder / check.MANIFEST)

    def check(self) -> None:
        """Compares every file with the manifest, and runs the golden inputs through every model file.

        Raises:
            CheckFailed: a file is damaged, or its outputs differ.
        """
        check.check(self.folder)

    def table(self) -> tuple[list[str], list[list[str]], str]:
        """Returns the columns, the rows and the title of the table of files."""
        return bundle.table(self.exported, self.against, self.budget)

    def __str__(self) -> str:
        return f"{console.table_text(*self.table())}\nwritten to {self.folder}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return notebook.table(*self.table()) + notebook.paragraph(f"written to {self.folder}")


def choose(formats: Iterable[str], quantize: Iterable[str], *, sparse: bool = False) -> list[Variant]:
    """Returns the variants to export. Works like `variants.choose`.

    Raises:
        InputError: a name is unknown, a combination does not exist, or `sparse` is given without an int8 file.
    """
    quantize = list(quantize)
    chosen = variants.choose(formats, quantize)
    if sparse and not any(each.quantize == "int8" for each in chosen):
        raise InputError(
            f"--sparse needs an int8 file, and --quantize={','.join(quantize)} writes none: add --quantize=int8"
        )
    return chosen


def export_model(
    source: Path,
    trained: keras.Model,
    card: Card,
    *,
    chosen: list[Variant],
    data: Path | None = None,
    out: Path | None = None,
    split: str | None = None,
    budget: int = BUDGET,
    max_drop: float = MAX_DROP,
    records: int | None = RECORDS,
    outputs: Iterable[str] = (variants.PROBABILITIES,),
    min_precision: float | None = None,
    **options: Any,
) -> Bundle:
    """Exports a model as a verified bundle.

    Args:
        source: the file or folder of the model, for messages and for the default of `out`.
        chosen: the files to write, from `choose`.
        data: the shards to compare on. None means the shards that the model was trained on.
        out: the folder. None means export/artifacts/NAME.
        split: the split to compare on. None means test, or val if there is no test.
        budget: maximum bytes of a file.
        max_drop: maximum loss of top-1 accuracy, as a share.
        records: how many records to compare on. None means all.
        outputs: the outputs of each file: `probabilities`, or `probabilities` and `class_map`.
        min_precision: share of right answers, 0 to 1, that sets the threshold for "not sure". None sets no threshold.
        options: of `bundle.export`.

    Raises:
        InputError: the reasons of `bundle.export`, an output is unknown, no threshold has `min_precision`, or another
            process exports to the same folder.
    """
    if min_precision is not None:
        card = with_threshold(source, card, min_precision)
    with_class_map = variants.has_class_map(outputs)
    manifest = manifests.load(data or run_folder.trained_on(card, source))
    out = out or ARTIFACTS / bundle.name_of(source)
    split = split or next((name for name in ("test", "val") if name in manifest.splits), "train")
    lock, remedy = locks.beside(out.resolve()), "wait for it, or name another --out"
    with locks.locked(lock, f"exports to {out}", wait=False, remedy=remedy):
        files.remove_abandoned(out.resolve(), age=0)
        exported, against = bundle.export(
            source,
            trained,
            card,
            manifest,
            variants=chosen,
            gate=bundle.Gate(budget, max_drop, split, records),
            out=out,
            with_class_map=with_class_map,
            **options,
        )
    return Bundle(out, exported, against, budget)


def with_threshold(source: Path, card: Card, min_precision: float) -> Card:
    """Returns the card with the lowest threshold at which this share of the answers on val is right.

    Raises:
        InputError: the share is not above 0 and at most 1, the model was not calibrated, or no threshold has it.
    """
    if not 0 < min_precision <= 1:
        raise InputError(f"--min_precision={min_precision:g} is not above 0 and at most 1; 0.98 means 98 %")
    if not card.answered or card.temperature is None:
        raise InputError(
            f"--min_precision={min_precision:g} takes the threshold from a table that the calibration on val writes, "
            f"and {source} has none: run python -m sqznet.evaluate --model={source} --calibrate first"
        )
    row = threshold.lowest(card.answered, min_precision)
    records, split = card.temperature["records"], card.temperature["split"]
    if row is None:
        best = max(card.answered, key=lambda each: each["accuracy"])
        raise InputError(
            f"no threshold gives --min_precision={min_precision:g}: on {records:,} records of {split}, the highest "
            f"accuracy of the answers is {console.percent(best['accuracy'])}, at the threshold {best['threshold']:g}. "
            "Give a lower --min_precision, or train a more accurate model"
        )
    low, high = (console.percent(each) for each in row["accuracy_interval_95"])
    console.say(
        f"threshold {row['threshold']:g}: of {records:,} records of {split}, {console.percent(row['share'])} are "
        f"answered, and {console.percent(row['accuracy'])} of the answers are right (95 % interval {low} to {high})"
    )
    return dataclasses.replace(card, threshold={"value": row["threshold"], "min_precision": min_precision})
