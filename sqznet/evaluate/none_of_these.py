"""Measures `evaluate --foreign`: how often a model answers for photographs that show none of its classes (foreign).

Two scores are compared: the largest probability, and the energy score (Liu et al. 2020), which needs the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, detection, files, metrics, plots, remote
from sqznet.core.detection import Figure
from sqznet.core.errors import InputError, Reject
from sqznet.core.threshold import THRESHOLDS
from sqznet.data import manifest as manifests
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.evaluate import accuracy_report
from sqznet.evaluate.scoring import BATCH
from sqznet.images import resize
from sqznet.network import class_map, exported, labels
from sqznet.predict import photographs
from sqznet.predict.inference import Predictor

PROBABILITY, ENERGY = "max_probability", "energy"
NAMES = {PROBABILITY: "largest probability", ENERGY: "energy"}
COLUMNS = ("score", "AUROC", "FPR at 95 % TPR", "wrongly answered")


@dataclass(frozen=True)
class Scored:
    """The scores of records. A higher score means that the record is more likely to be one of the classes."""

    scores: dict[str, np.ndarray]  # by name, float64 (n,)
    predicted: np.ndarray  # the outputs with the largest probability, (n,)

    @property
    def n(self) -> int:
        return len(self.predicted)


def report(predictor: Predictor, manifest: Manifest, split: str, source: str, out: Path) -> dict[str, Any]:
    """Prints the figures, and writes foreign-SPLIT.json and foreign-SPLIT.png to `out`. Returns the JSON.

    Args:
        manifest: the set with photographs of the classes (own).
        source: the foreign photographs: a folder, also as folder:DIR, or a folder of shards.

    Raises:
        InputError: there are no such photographs, or a folder of them is named like a class of the model.
    """
    folder = Path(source.removeprefix("folder:"))
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    foreign = score(predictor, with_progress(foreign_images(predictor, folder), "foreign"))
    true: list[np.ndarray] = []

    def own_images() -> Iterator[np.ndarray]:
        for images, some in pipeline.examples(manifest, split, predictor.card.preprocessing, None, BATCH):
            true.append(outputs[some])
            yield images

    own = score(predictor, with_progress(own_images(), split))
    hits = own.predicted == np.concatenate(true)
    measured, threshold, share = figures(own, foreign, predictor.threshold)
    gain = better(own, foreign)
    rows_by_threshold = by_threshold(own, foreign, hits)
    content = {
        "model": remote.published(predictor.path),
        "data": remote.published(manifest.folder),
        "split": split,
        "n": own.n,
        "foreign": remote.published(folder),
        "n_foreign": foreign.n,
        "threshold": threshold,
        "threshold_of_the_file": predictor.threshold is not None,
        "own_answered": share,
        "scores": measured,
        "energy_minus_max_probability": gain,
        "by_threshold": rows_by_threshold,
    }
    stem = f"foreign-{accuracy_report.stem_of(predictor, split)}"
    table, picture = out / f"{stem}.json", out / f"{stem}.png"
    files.write_json(table, content)
    with console.doing("drawing the answered shares"):
        title = f"{predictor.path.name}: {own.n:,} records of {split}, {foreign.n:,} foreign photographs"
        plots.answered(rows_by_threshold, threshold, picture, title)
    rows = [
        [NAMES[name], *(shown(each[key]) for key in ("auroc", "fpr", "answered"))] for name, each in measured.items()
    ]
    console.table(COLUMNS, rows, title=f"{foreign.n:,} photographs of {folder} against {own.n:,} records of {split}")
    where = "the threshold of the file" if predictor.threshold is not None else "no threshold in the model; 95 % of own"
    console.result(
        f"wrongly answered: at the threshold {threshold:.4g} ({where}), which answers {console.percent(share)} of "
        f"{split}" + ("; for the energy score, at the threshold that answers as many" if ENERGY in measured else "")
    )
    console.result(verdict(gain))
    console.result(f"report: {table}, {picture}")
    return content


def foreign_images(predictor: Predictor, folder: Path) -> Iterator[np.ndarray]:
    """Yields prepared photographs, uint8 (n, size, size, 3), of a folder of photographs or of shards.

    Raises:
        InputError: as `report`.
    """
    preprocessing = predictor.card.preprocessing
    if (folder / exported.BUNDLE_MANIFEST).is_file():
        manifest = manifests.load(folder)
        _require_foreign(predictor, labels.readable(manifest.classes), folder)
        for split in manifest.splits:
            for images, _ in pipeline.examples(manifest, split, preprocessing, None, BATCH):
                yield images
        return
    if not folder.is_dir():
        raise InputError(f"--foreign={folder} is not a folder of photographs or of shards")
    photos = photographs.list_photos([str(folder)])
    _require_foreign(predictor, labels.readable(tuple(sorted({photo.parent.name for photo in photos}))), folder)
    batch, found = [], False
    for photo in photos:
        try:
            batch.append(resize.prepare(photographs.read(photo)[0], preprocessing))
        except Reject as reason:
            if photos[photo]:
                console.say(f"{photo} is left out: {reason}")
            continue
        found = True
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
    if not found:
        raise InputError(f"none of {len(photos):,} files in --foreign={folder} is a photograph")


def _require_foreign(predictor: Predictor, names: tuple[str, ...], folder: Path) -> None:
    known = sorted(set(names) & set(predictor.labels))
    if known:
        raise InputError(
            f"--foreign={folder} has a folder or class {known[0]!r}, which is a class of {predictor.path}: name "
            "photographs of none of its classes"
        )


def with_progress(batches: Iterator[np.ndarray], what: str) -> Iterator[np.ndarray]:
    with console.progress("images/s") as bar:
        task = bar.add_task(f"evaluating {what}", total=None)
        for images in batches:
            yield images
            bar.advance(task, len(images))


def score(predictor: Predictor, batches: Iterator[np.ndarray]) -> Scored:
    """Scores images. The energy needs logits, so a file without class map gets the largest probability only."""
    grid = predictor.runtime.grid
    found: dict[str, list[np.ndarray]] = {PROBABILITY: [], **({} if grid is None else {ENERGY: []})}
    predicted = []
    for images in batches:
        if grid is None:
            probabilities = predictor.predict(images)
        else:
            probabilities, maps = predictor.predict_with_class_map(images)
            found[ENERGY].append(detection.energy(class_map.logits(maps) / grid.divisor))
        found[PROBABILITY].append(probabilities.max(axis=1).astype(np.float64))
        predicted.append(probabilities.argmax(axis=1))
    return Scored({name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(predicted))


def figures(own: Scored, foreign: Scored, threshold: float | None) -> tuple[dict[str, dict[str, Any]], float, float]:
    """Returns AUROC, FPR at 95 % TPR and the share of wrongly answered foreign photographs of each score.

    Args:
        threshold: of the largest probability. None means the one that 95 % of the own records reach.

    Returns:
        The figures by score, the threshold of the largest probability, and the share of own records that it answers.
    """
    of_own = own.scores[PROBABILITY]
    used = detection.threshold_at(of_own, detection.TPR) if threshold is None else threshold
    share = float((of_own >= used).mean())

    def at_threshold(scores: np.ndarray, others: np.ndarray) -> float:
        return float((others >= used).mean())

    def at_share(scores: np.ndarray, others: np.ndarray) -> float:
        return float((others >= detection.threshold_at(scores, share)).mean()) if share else 0.0

    found = {}
    for name, scores in own.scores.items():
        measures: dict[str, detection.Measure] = {
            "auroc": detection.auroc,
            "fpr": detection.fpr_at_tpr,
            "answered": at_threshold if name == PROBABILITY else at_share,
        }
        both = scores, foreign.scores[name]
        found[name] = {key: _as_dict(detection.measured(each, *both)) for key, each in measures.items()}
    return found, used, share


def better(own: Scored, foreign: Scored) -> dict[str, Any] | None:
    """Returns by how much the energy has a larger AUROC than the largest probability. None without energy."""
    if ENERGY not in own.scores:
        return None
    both = [(own.scores[name], foreign.scores[name]) for name in (ENERGY, PROBABILITY)]
    return {
        "auroc": _as_dict(detection.difference(detection.auroc, *both)),
        "fpr": _as_dict(detection.difference(detection.fpr_at_tpr, *both)),
    }


def verdict(gain: dict[str, Any] | None) -> str:
    """Says which score is better, and by how much."""
    if gain is None:
        return (
            "the energy score needs logits, and this file gives probabilities only: evaluate the run folder, or "
            f"{class_map.HOW_TO}"
        )
    low, high = gain["auroc"]["interval_95"]
    size = f"AUROC {100 * gain['auroc']['value']:+.2f} points, 95 % interval {100 * low:.2f} to {100 * high:.2f}"
    kept = "the threshold is one of the largest probability"
    if low > 0:
        return f"the energy score is better ({size}); {kept}, because exported files give probabilities and no logits"
    if high < 0:
        return f"the largest probability is better than the energy score ({size})"
    return f"the energy score is not better by more than its interval ({size}): {kept}"


def by_threshold(own: Scored, foreign: Scored, hits: np.ndarray) -> list[dict[str, Any]]:
    """Returns for each threshold of the largest probability the answered shares, and the accuracy of the own answers.

    Args:
        hits: whether the top-1 class of each own record is correct, (n,).
    """
    rows = []
    for threshold in THRESHOLDS:
        answered = own.scores[PROBABILITY] >= threshold
        wrongly = int((foreign.scores[PROBABILITY] >= threshold).sum())
        rows.append(
            {
                "threshold": threshold,
                "own_answered": float(answered.mean()),
                "accuracy": float(hits[answered].mean()) if answered.any() else None,
                "foreign_answered": wrongly / foreign.n,
                "foreign_answered_interval_95": metrics.wilson_interval(wrongly, foreign.n),
            }
        )
    return rows


def shown(figure: dict[str, Any]) -> str:
    low, high = figure["interval_95"]
    return f"{100 * figure['value']:.2f} % ({100 * low:.2f} to {100 * high:.2f})"


def _as_dict(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "interval_95": list(figure.interval_95)}
