"""Rank-1 and rank-5 accuracy of any model file on a split, every record once.

  python -m sqznet.evaluate
      the newest run, on the data it was trained with
  python -m sqznet.evaluate --model=runs/NAME --data=data/imagenet --split=test
  python -m sqznet.evaluate --model=export/artifacts/NAME/model.tflite --data=data/imagenet --split=val

--model is a run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file; each runs in its own
runtime. Prints accuracy with 95 % intervals and a table by class; writes a JSON report and the confusion matrix.
Rank-1 is top-1, rank-5 is top-5; a class ranks behind those of equal probability.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import cli, console, files
from sqznet.errors import InputError

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest
    from sqznet.inference import Predictor
    from sqznet.metrics import Score

BATCH = 64
CLASSES_SHOWN = 20


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.evaluate", __doc__)
    parser.add_argument("--model", type=Path, help="what to evaluate; default the newest run")
    parser.add_argument("--data", type=Path, help="folder of shards; default the one the run was trained with")
    parser.add_argument("--split", help="train, val or test; default test, or val where there is no test")
    parser.add_argument("--out", type=Path, help="folder for the report; default the run folder, or the file's")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    from sqznet import inference, startup
    from sqznet.data import manifest as manifests
    from sqznet.training import run_folder

    path = args.model or run_folder.newest(run_folder.BEST)
    startup.load_tensorflow()
    predictor = inference.load(path)
    manifest = manifests.load(args.data or _trained_on(path))
    split = args.split or ("test" if "test" in manifest.splits else "val")
    score = evaluate(predictor, manifest, split)
    out = args.out or (path if (path / run_folder.CONFIG).is_file() else path.parent)
    report(score, predictor, manifest, split, out)
    return 0


def _trained_on(path: Path) -> Path:
    """The data folder named in the run's config.json, or in the manifest.json beside an exported file."""
    for file in (path / "config.json", path.parent / "config.json", path.parent / "manifest.json"):
        if file.is_file():
            data = json.loads(file.read_text()).get("data")
            if data:
                return Path(data)
    raise InputError(f"nothing beside {path} says which data it was trained with: give --data=FOLDER")


def evaluate(predictor: Predictor, manifest: Manifest, split: str) -> Score:
    """Scores every record of a split once.

    Raises:
        InputError: no such split, or the model's classes are not the data's.
    """
    import numpy as np

    from sqznet import metrics
    from sqznet.data import pipeline

    predictor.check_classes(manifest.classes, manifest.folder)
    total = manifest.records(split)
    probabilities, labels = [], []
    with console.progress("images/s") as bar:
        task = bar.add_task(f"evaluating {predictor.path.name} on {split}", total=total)
        for images, some_labels in pipeline.examples(manifest, split, predictor.recipe, None, BATCH):
            probabilities.append(predictor.predict(images))
            labels.append(some_labels)
            bar.advance(task, len(some_labels))
    try:
        score = metrics.score(np.concatenate(probabilities), np.concatenate(labels))
    except ValueError as error:
        raise InputError(f"{predictor.path}: {error}") from None
    assert score.n == total, f"scored {score.n} of {total} records"
    return score


def report(score: Score, predictor: Predictor, manifest: Manifest, split: str, out: Path) -> None:
    """Prints the score and writes evaluation-SPLIT.json and confusion-SPLIT.png to `out`."""
    from sqznet import plots

    stem = split if predictor.path.suffix not in (".tflite", ".onnx") else f"{split}-{predictor.path.name}"
    plots.confusion_matrix(
        score.confusion, manifest.classes, out / f"confusion-{stem}.png", f"{predictor.path.name} on {split}"
    )
    files.write_json(out / f"evaluation-{stem}.json", to_json(score, predictor, manifest, split))
    _print_by_class(score, manifest.classes)
    console.table(
        ["data", "split", "n", "measure", "accuracy", "95 % interval"],
        [
            [manifest.folder, split, score.n, name, console.percent(share), _interval(interval)]
            for name, share, interval in (
                ("rank-1 (top-1)", score.top1, score.top1_interval),
                ("rank-5 (top-5)", score.top5, score.top5_interval),
            )
        ],
        title=str(predictor.path),
    )
    console.result(f"report: {out / f'evaluation-{stem}.json'}, {out / f'confusion-{stem}.png'}")


def to_json(score: Score, predictor: Predictor, manifest: Manifest, split: str) -> dict[str, Any]:
    return {
        "model": str(predictor.path),
        "data": str(manifest.folder),
        "source": manifest.content["source"],
        "split": split,
        "n": score.n,
        "top1": score.top1,
        "top1_interval_95": score.top1_interval,
        "top5": score.top5,
        "top5_interval_95": score.top5_interval,
        "image_size": predictor.runtime.image_size,
        "resize_short": predictor.resize_short,
        "classes": list(manifest.classes),
        "confusion": score.confusion.tolist(),
    }


def _print_by_class(score: Score, classes: tuple[str, ...]) -> None:
    """All classes, or the worst of many."""
    rows = []
    for label, name in enumerate(classes):
        row = score.confusion[label]
        if not row.sum():
            continue
        others = row.copy()
        others[label] = 0
        mistaken = f"{classes[others.argmax()]} ({others.max()})" if others.any() else "-"
        rows.append((row[label] / row.sum(), [name, row.sum(), console.percent(row[label] / row.sum()), mistaken]))
    title = "by class"
    if len(rows) > CLASSES_SHOWN:
        rows = sorted(rows, key=lambda row: row[0])[:CLASSES_SHOWN]
        title = f"the {CLASSES_SHOWN} worst of {len(classes)} classes (all are in the report)"
    console.table(["class", "n", "top-1", "most often taken for"], [row for _, row in rows], title=title)


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.2f} to {100 * high:.2f} %"


if __name__ == "__main__":
    cli.run(main)
