"""Reports a score: a JSON file, the confusion matrix, and tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, files, metrics, plots, remote
from sqznet.core.metrics import Score
from sqznet.data import provenance, sources
from sqznet.data.manifest import Manifest
from sqznet.evaluate.scoring import Loss
from sqznet.images import geometry
from sqznet.network import labels
from sqznet.predict.inference import Predictor
from sqznet.runs import run_folder

CLASSES_SHOWN = 20
MIN_RECORDS = 10  # records of a class in the table of the worst classes: with fewer the accuracy is too uncertain


def report(
    score: Score,
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    out: Path,
    resize_as: str | None = None,
    loss: Loss | None = None,
) -> None:
    """Prints the score and writes evaluation-SPLIT.json and confusion-SPLIT.png to `out`.

    Args:
        resize_as: the key of RUNTIME_RESIZES whose preprocessing was used instead of the model's. It becomes part
            of the file names, as does the predictor's `geometry`.
        loss: against a second model.
    """
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    # A model may have more classes than the data. All count as predictions, but only the classes of the data are drawn.
    drawn, totals = score.confusion[np.ix_(outputs, outputs)], score.confusion.sum(axis=1)[outputs]
    names = labels.readable(manifest.classes)
    notes = [_contamination(predictor, manifest, split), _changed_since(predictor.path, manifest)]
    note = "; ".join(filter(None, notes)) or None
    is_run = (predictor.path / run_folder.CONFIG).is_file()
    stem = split if is_run else f"{split}-{predictor.path.name}"
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
    content = _to_json(
        score,
        predictor,
        manifest,
        split,
        note=note,
        resize_as=resize_as,
        geometry_override=predictor.geometry or None,
        loss=dataclasses.asdict(loss) if loss else None,
    )
    files.write_json(out / f"evaluation-{stem}.json", content)
    _print_by_class(score, labels.readable(predictor.card.classes or manifest.classes))
    has_top5 = 5 in metrics.ranks(len(score.confusion))
    console.table(
        ["data", "split", "n", "measure", "accuracy", "95 % interval"],
        [
            [manifest.folder, split, score.n, name, console.percent(share), _interval(interval)]
            for name, share, interval in (
                ("rank-1 (top-1)", score.top1, score.top1_interval),
                ("rank-5 (top-5)", score.top5, score.top5_interval),
            )[: 1 + has_top5]
        ],
        title=f"{predictor.path}{otherwise}",
    )
    if loss:
        _print_loss(loss, has_top5)
    if note:
        console.result(f"note: {note}")
    console.result(f"report: {out / f'evaluation-{stem}.json'}, {out / f'confusion-{stem}.png'}")


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


def _to_json(score: Score, predictor: Predictor, manifest: Manifest, split: str, **others: Any) -> dict[str, Any]:
    """Returns the JSON report. Its `confusion` lists [true output, predicted output, records]."""
    return {
        "model": remote.published(predictor.path),
        "data": remote.published(manifest.folder),
        "listing_sha256": manifest.content.get("listing_sha256"),
        "source": sources.published(manifest.content["source"]),
        "split": split,
        "n": score.n,
        "top1": score.top1,
        "top1_interval_95": score.top1_interval,
        "top5": score.top5,
        "top5_interval_95": score.top5_interval,
        "pretrained_on": predictor.card.pretrained_on,
        **others,
        "preprocessing": predictor.card.preprocessing.to_dict(),
        "classes": list(predictor.card.classes or manifest.classes),
        "confusion": [[*map(int, pair), int(score.confusion[tuple(pair)])] for pair in np.argwhere(score.confusion)],
    }


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
    rows = []
    for label, name in enumerate(classes):
        row = score.confusion[label]
        n, hits = int(row.sum()), int(row[label])
        if not n:
            continue
        others = row.copy()
        others[label] = 0
        mistaken = f"{classes[others.argmax()]} ({others.max()})" if others.any() else "-"
        interval = _interval(metrics.wilson_interval(hits, n))
        rows.append((hits / n, n, [name, n, hits, console.percent(hits / n), interval, mistaken]))
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
    columns = ["class", "n", "right", "top-1", "95 % interval", "most often taken for"]
    console.table(columns, [row for _, _, row in shown], title=title)


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"
