"""Writes the report on a data set: dataset.html, duplicates.csv and suspects.csv.

dataset.html is one file without scripts and without network access. The CSV files list every finding, and dataset.html
shows the first ones with their pictures.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, files, rendering
from sqznet.core.errors import InputError
from sqznet.data import exclusion
from sqznet.data.manifest import REPORTS
from sqznet.data.predictions import Predictions
from sqznet.data.survey import duplicates, label_errors, measures
from sqznet.data.survey.duplicates import Pair
from sqznet.data.survey.label_errors import Suspect
from sqznet.data.survey.measures import Survey
from sqznet.data.survey.photographs import Photographs
from sqznet.images import decode
from sqznet.network import labels

FILE, DUPLICATES, SUSPECTS = REPORTS
PAIRS_SHOWN = 60  # of a section
SUSPECTS_SHOWN = 60
EXTREMES_SHOWN = 8
CLASSES_SHOWN = 50  # lines of the table of classes
_SIDE = 128  # longest side of a picture in the report, in pixels
_PERCENTILES = (0, 5, 50, 95, 100)
_PAIR_COLUMNS = ["kind", "similarity", "duplicate_of", "split_of", "class_of"]


@dataclass(frozen=True)
class Found:
    """The findings of a report."""

    leaks: list[Pair]  # in two splits
    conflicts: list[Pair]  # in one split, with different classes
    others: list[Pair]  # in one split, with the same class
    suspects: list[tuple[Predictions, Suspect]]

    @property
    def pairs(self) -> list[Pair]:
        """All duplicates, in the order of the report."""
        return [*self.leaks, *self.conflicts, *self.others]


def report(
    of: Photographs, out: Path, predictions: Sequence[Predictions] = (), max_pixels: int = decode.MAX_PIXELS
) -> Found:
    """Reads all photographs, and writes the report into the folder `out`.

    Raises:
        InputError: no photograph can be read, ImageHash is not installed, `out` is no folder, or predictions have other
            classes or none of these photographs.
    """
    files.check_folder(out)
    for each in predictions:
        _require_same_classes(each, of)
    survey = measures.survey(of, max_pixels)
    pairs = duplicates.find(survey)
    found = Found(
        [pair for pair in pairs if pair.is_leak(survey)],
        [pair for pair in pairs if pair.is_conflict(survey)],
        [pair for pair in pairs if not pair.is_leak(survey) and not pair.is_conflict(survey)],
        _suspects(predictions),
    )
    rows = rows_by_name(survey)
    _require_known(predictions, rows, of)
    names = labels.readable(survey.classes)
    files.write_csv(
        out / DUPLICATES,
        [exclusion.FILE, exclusion.EXCLUDE, "split", "class", *_PAIR_COLUMNS],
        [_pair_row(pair, survey) for pair in found.pairs],
    )
    files.write_csv(
        out / SUSPECTS,
        [exclusion.FILE, exclusion.EXCLUDE, "split", "class", "likely_class", "margin"],
        [_suspect_row(each, suspect) for each, suspect in found.suspects],
    )
    _write_html(out / FILE, survey, found, predictions, rows, names, max_pixels)
    _say(found, survey, out)
    return found


def rows_by_name(survey: Survey) -> dict[tuple[str, str], int]:
    """Returns the row of each photograph by split and file. A name of several photographs has no row."""
    times = Counter((name.split, name.file) for name in survey.names)
    return {(name.split, name.file): row for row, name in enumerate(survey.names) if times[name.split, name.file] == 1}


def _require_same_classes(each: Predictions, of: Photographs) -> None:
    if each.classes != of.classes:
        raise InputError(
            f"--predictions are for {len(each.classes)} classes ({', '.join(each.classes[:3])}, ...), and {of.where} "
            f"has {len(of.classes)} ({', '.join(of.classes[:3])}, ...); evaluate the model on this set"
        )


def _require_known(predictions: Sequence[Predictions], rows: dict[tuple[str, str], int], of: Photographs) -> None:
    for each in predictions:
        if not any((each.split, file) in rows for file in each.files):
            raise InputError(
                f"--predictions are for {each.split}, and none of their files, such as {each.files[:1]}, is in that "
                f"split of {of.where}; evaluate the model on this set"
            )


def _suspects(predictions: Sequence[Predictions]) -> list[tuple[Predictions, Suspect]]:
    """Returns the suspects of all predictions on records that their model was not trained on, most likely first."""
    found = [
        (each, suspect)
        for each in predictions
        if each.held_out and each.files
        for suspect in label_errors.suspects(each.labels, each.probabilities)
    ]
    return sorted(found, key=lambda item: item[1].margin)


def _pair_row(pair: Pair, survey: Survey) -> list[Any]:
    kept, other = survey.names[pair.kept], survey.names[pair.other]
    return [
        other.file,
        exclusion.NO if pair.is_conflict(survey) else exclusion.YES,
        other.split,
        survey.classes[other.label],
        pair.kind,
        f"{pair.similarity:.4f}",
        kept.file,
        kept.split,
        survey.classes[kept.label],
    ]


def _suspect_row(of: Predictions, suspect: Suspect) -> list[Any]:
    label = of.labels[suspect.record]
    likely = of.classes[suspect.likely]
    return [
        of.files[suspect.record], exclusion.NO, of.split, of.classes[label], likely, f"{suspect.margin:.4f}",
    ]  # fmt: skip


def _write_html(
    path: Path,
    survey: Survey,
    found: Found,
    predictions: Sequence[Predictions],
    rows: dict[tuple[str, str], int],
    names: Sequence[str],
    max_pixels: int,
) -> None:
    sections = {name: getattr(found, name)[:PAIRS_SHOWN] for name in ("leaks", "conflicts", "others")}
    shown = [
        (rows[of.split, of.files[each.record]], of, each)
        for of, each in found.suspects
        if (of.split, of.files[each.record]) in rows
    ][:SUSPECTS_SHOWN]
    extremes = _extremes(survey)
    wanted = {row for some in sections.values() for pair in some for row in (pair.kept, pair.other)}
    wanted |= {row for row, *_ in shown} | {row for _, some in extremes for row, _ in some}
    numbers = {int(survey.numbers[row]): row for row in wanted}
    jpegs = measures.pictures(survey.photographs, numbers, _SIDE, max_pixels)
    pictures = {row: base64.b64encode(jpegs[number]).decode() for number, row in numbers.items() if number in jpegs}

    def card(row: int, more: str = "") -> dict[str, Any]:
        name = survey.names[row]
        return {
            "jpeg": pictures.get(row, ""),
            "file": console.printable(name.file, keep=""),
            "split": name.split,
            "class": names[name.label],
            "more": more,
        }

    content = (
        rendering.environment("sqznet.data")
        .get_template("dataset.html.j2")
        .render(
            where=console.printable(survey.photographs.where, keep=""),
            total=len(survey.names),
            classes=len(names),
            found=found,
            sections={
                name: [(card(pair.kept), card(pair.other), pair.kind, pair.similarity) for pair in some]
                for name, some in sections.items()
            },
            exact=sum(pair.kind == duplicates.EXACT for pair in found.pairs),
            near=sum(pair.kind == duplicates.NEAR for pair in found.pairs),
            suspects=[card(row, f"likely {names[each.likely]}, margin {each.margin:.2f}") for row, _, each in shown],
            predicted=[each.split for each in predictions if each.held_out],
            not_held_out=[each.split for each in predictions if not each.held_out],
            split_rows=_split_rows(survey),
            class_columns=["class", *(f"{split}, {what}" for split in survey.splits for what in ("photographs", "MB"))],
            class_rows=_class_rows(survey, names),
            classes_shown=CLASSES_SHOWN,
            measured=measures.MEASURED,
            size_columns=["", "smallest", "5 %", "median", "95 %", "largest"],
            size_rows=_size_rows(survey),
            extremes=[(title, [card(row, text) for row, text in some]) for title, some in extremes],
            unreadable=[
                [console.printable(name.file, keep=""), name.split, reason]
                for name, reason in survey.unreadable[:PAIRS_SHOWN]
            ],
            unreadable_count=len(survey.unreadable),
        )
    )
    files.write_text(path, content)


def _split_rows(survey: Survey) -> list[list[str]]:
    of = np.array([name.split for name in survey.names])
    rows = []
    for split in survey.splits:
        mine = of == split
        present = len({name.label for name in survey.names if name.split == split})
        rows.append([split, f"{mine.sum():,}", f"{survey.encoded_bytes[mine].sum() / 1e6:,.1f}", f"{present:,}"])
    return rows


def _class_rows(survey: Survey, names: Sequence[str]) -> list[list[str]]:
    """Returns photographs and MB of each class by split. Of many classes, returns the smallest ones."""
    counts: Counter[tuple[int, str]] = Counter()
    sizes: Counter[tuple[int, str]] = Counter()
    for name, size in zip(survey.names, survey.encoded_bytes.tolist(), strict=True):
        counts[name.label, name.split] += 1
        sizes[name.label, name.split] += size
    totals = [sum(counts[label, split] for split in survey.splits) for label in range(len(names))]
    order = list(range(len(names)))
    if len(order) > CLASSES_SHOWN:
        order = sorted(order, key=lambda label: (totals[label], label))[:CLASSES_SHOWN]
    return [
        [
            names[label],
            *(
                text
                for split in survey.splits
                for text in (f"{counts[label, split]:,}", f"{sizes[label, split] / 1e6:,.1f}")
            ),
        ]
        for label in order
    ]


def _size_rows(survey: Survey) -> list[list[str]]:
    width, height = survey.sizes.T.astype(np.float64)
    by_name = {
        "width, pixels": (width, ",.0f"),
        "height, pixels": (height, ",.0f"),
        "width / height": (width / height, ".2f"),
        "kB": (survey.encoded_bytes / 1e3, ",.1f"),
        "brightness (0 to 255)": (survey.brightness, ".0f"),
    }
    return [
        [name, *(format(float(value), form) for value in np.percentile(values, _PERCENTILES))]
        for name, (values, form) in by_name.items()
    ]


def _extremes(survey: Survey) -> list[tuple[str, list[tuple[int, str]]]]:
    """Returns the darkest, brightest, blurriest and smallest photographs, with a text for each."""
    pixels = survey.sizes.prod(axis=1, dtype=np.int64)

    def first(values: np.ndarray) -> list[int]:
        return np.argsort(values, kind="stable")[:EXTREMES_SHOWN].tolist()

    def size(row: int) -> str:
        return f"{survey.sizes[row, 0]:,} x {survey.sizes[row, 1]:,} pixels"

    return [
        ("Darkest", [(row, f"mean {survey.brightness[row]:.0f} of 255") for row in first(survey.brightness)]),
        ("Brightest", [(row, f"mean {survey.brightness[row]:.0f} of 255") for row in first(-survey.brightness)]),
        ("Blurriest", [(row, f"sharpness {survey.sharpness[row]:.1f}") for row in first(survey.sharpness)]),
        ("Smallest", [(row, size(row)) for row in first(pixels)]),
    ]


def _say(found: Found, survey: Survey, out: Path) -> None:
    rows = [
        ["leaks: the same photograph in two splits", f"{len(found.leaks):,}"],
        ["conflicts: the same photograph in two classes of a split", f"{len(found.conflicts):,}"],
        ["other duplicates in a split", f"{len(found.others):,}"],
        ["likely label errors", f"{len(found.suspects):,}"],
        ["photographs that cannot be read", f"{len(survey.unreadable):,}"],
    ]
    console.table(["finding", "photographs"], rows, title=f"{survey.photographs.where}: {len(survey.names):,} read")
    console.result(f"report: {out / FILE}, {out / DUPLICATES}, {out / SUSPECTS}")
