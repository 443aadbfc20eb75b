"""Reports a score: a JSON file, the confusion matrix, a reliability diagram, a sheet of mistakes, and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sqznet.core import console, files, metrics, plots
from sqznet.core.metrics import Score
from sqznet.data.manifest import Manifest
from sqznet.evaluate.evaluation import COLUMNS, QUALITY_COLUMNS, Evaluation, shown_interval
from sqznet.evaluate.scoring import Loss, Mistake
from sqznet.images import geometry
from sqznet.network import labels
from sqznet.predict.inference import Predictor
from sqznet.runs import run_folder

CLASSES_SHOWN = 20
MISTAKES_SHOWN = 12
MIN_RECORDS = 10  # records of a class in the table of the worst classes: with fewer the accuracy is too uncertain


def report(
    score: Score,
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    out: Path,
    resize_as: str | None = None,
    loss: Loss | None = None,
    mistakes: Sequence[Mistake] = (),
) -> None:
    """Prints the score and writes evaluation-SPLIT.json, confusion-SPLIT.png and reliability-SPLIT.png to `out`.

    Args:
        resize_as: the key of RUNTIME_RESIZES whose preprocessing was used instead of the model's. It becomes part
            of the file names, as does the predictor's `geometry`.
        loss: against a second model.
        mistakes: the most confident mistakes, for mistakes-SPLIT.png. Without mistakes, there is no such file.
    """
    evaluation = Evaluation(score, predictor, manifest, split)
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    # A model may have more classes than the data. All count as predictions, but only the classes of the data are drawn.
    drawn, totals = score.confusion[np.ix_(outputs, outputs)], score.confusion.sum(axis=1)[outputs]
    names = labels.readable(manifest.classes)
    stem = stem_of(predictor, split)
    otherwise = ""
    if resize_as:
        stem, otherwise = f"{stem}-as-{resize_as}", f", resized as {resize_as} does"
    if predictor.geometry:
        values = (flag.removeprefix("--").partition("=") for flag in geometry.as_flags(predictor.geometry))
        stem = "-".join([stem, "resized", *(value or name for name, _, value in values)])
        otherwise = f", {' '.join(geometry.as_flags(predictor.geometry))}"
    title = f"{predictor.path.name} on {split}{otherwise}"
    with console.doing("drawing the confusion matrix"):
        plots.confusion_matrix(drawn, names, out / f"confusion-{stem}.png", title, totals=totals)
    pictures = [out / f"confusion-{stem}.png", out / f"reliability-{stem}.png"]
    with console.doing("drawing the reliability diagram"):
        plots.reliability(score.reliability, score.ece, pictures[1], title)
    known = labels.readable(predictor.card.classes or manifest.classes)
    sheet = out / f"mistakes-{stem}.png"
    sheet.unlink(missing_ok=True)  # of an earlier evaluation
    if mistakes:
        with console.doing("drawing the most confident mistakes"):
            captions = [
                f"{known[each.predicted]} ({100 * each.confidence:.1f} %)\nnot {known[each.label]}, no. {each.record}"
                for each in mistakes
            ]
            plots.prediction_sheet([each.image for each in mistakes], captions, sheet)
        pictures.append(sheet)
    content = evaluation.to_dict() | {
        "mistakes": [
            {
                "record": each.record,
                "class": known[each.label],
                "predicted": known[each.predicted],
                "probability": each.confidence,
            }
            for each in mistakes
        ],
        "resize_as": resize_as,
        "loss": dataclasses.asdict(loss) if loss else None,
    }
    files.write_json(out / f"evaluation-{stem}.json", content)
    _print_by_class(score, known)
    console.table(COLUMNS, evaluation.rows(), title=f"{predictor.path}{otherwise}")
    console.table(QUALITY_COLUMNS, evaluation.quality_rows(), title="probabilities and averages")
    if loss:
        _print_loss(loss, 5 in metrics.ranks(len(score.confusion)))
    if evaluation.note:
        console.result(f"note: {evaluation.note}")
    console.result(f"report: {', '.join(map(str, [out / f'evaluation-{stem}.json', *pictures]))}")


def _print_loss(loss: Loss, has_top5: bool) -> None:
    low, high = (100 * each for each in loss.drop_interval_95)
    shares = {"rank-1": console.percent(loss.top1)} | ({"rank-5": console.percent(loss.top5)} if has_top5 else {})
    console.table(
        ["against", *shares, "points lost", "95 % interval"],
        [[loss.against, *shares.values(), f"{100 * loss.drop:.2f}", f"{low:.2f} to {high:.2f}"]],
        title="rank-1, paired on the same records",
    )


def _print_by_class(score: Score, classes: tuple[str, ...]) -> None:
    """Prints a table of all classes. Of many classes, prints the worst classes that have enough records."""
    rows, found = [], score.by_class
    for label, name in enumerate(classes):
        row = score.confusion[label]
        n, hits = int(row.sum()), int(row[label])
        if not n:
            continue
        others = row.copy()
        others[label] = 0
        mistaken = f"{classes[others.argmax()]} ({others.max()})" if others.any() else "-"
        interval = shown_interval(metrics.wilson_interval(hits, n))
        measures = [console.percent(float(each[label])) for each in (found.precision, found.f1)]
        rows.append((hits / n, n, [name, n, hits, console.percent(hits / n), interval, *measures, mistaken]))
    title, shown = "by class", rows
    if len(rows) > CLASSES_SHOWN:
        enough = [row for row in rows if row[1] >= MIN_RECORDS]
        few = f"{len(rows) - len(enough):,} of {len(rows):,} classes have fewer than {MIN_RECORDS} records"
        if not enough:
            console.result(f"no table of the worst classes: {few}, which are too few (all are in the report)")
            return
        shown = sorted(enough, key=lambda row: row[0])[:CLASSES_SHOWN]
        title = f"the {len(shown)} worst of {len(rows):,} classes (all are in the report)"
        if len(enough) < len(rows):
            title += f"; {few} and are left out"
    columns = ["class", "n", "right", "top-1", "95 % interval", "precision", "F1", "most often taken for"]
    console.table(columns, [row for _, _, row in shown], title=title)


def stem_of(predictor: Predictor, split: str) -> str:
    """Returns the part of the names of reports that names the split and, outside a run folder, the model."""
    is_run = (predictor.path / run_folder.CONFIG).is_file()
    return split if is_run else f"{split}-{predictor.path.name}"
