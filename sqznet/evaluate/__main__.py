"""Rank-1 and rank-5 accuracy of any model file on a split, every record once.

  python -m sqznet.evaluate
      the newest run, on the data it was trained with
  python -m sqznet.evaluate --model=runs/NAME --data=data/imagenet --split=test
  python -m sqznet.evaluate --model=export/artifacts/NAME/model.tflite --data=data/imagenet --split=val
  python -m sqznet.evaluate --model=squeezenet-v1.1 --data=data/imagenet --split=val
  python -m sqznet.evaluate --model=runs/NAME --resize_as=mediapipe
     what is left where a runtime scales photographs in its own way (docs/resize.md)
  python -m sqznet.evaluate --model=squeezenet-v1.1 --data=data/tiny --resize=squash --resize_to=227
     photographs that are cropped already are not cropped once more: squashed to the side of the network's input
  python -m sqznet.evaluate --model=v1.0.sqz --against=squeezenet-v1.0 --data=data/imagenet
      and how many points it loses against another model, on the same records

--model is a run folder, a .keras file, a SavedModel folder, a .tflite, .onnx or .sqz file, each of which runs in its
own runtime; a bundle's folder, of which the file nearest to the trained model is taken; or published weights, as a file
or by name (python -m sqznet.weights --list). Prints accuracy with 95 % intervals and a table by class; writes a JSON
report and the confusion matrix. Rank-1 is top-1, rank-5 is top-5; of equal probabilities the first class ranks first.
The data may have some of the model's classes only.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core import cli, console, files, remote
from sqznet.core.errors import InputError
from sqznet.images import geometry
from sqznet.images.preprocessing import RUNTIMES

if TYPE_CHECKING:
    import numpy as np

    from sqznet.core.metrics import Score
    from sqznet.data.manifest import Manifest
    from sqznet.predict.inference import Predictor

BATCH = 64
CLASSES_SHOWN = 20
LEAST_RECORDS = 10  # of a class among the worst: of fewer, an accuracy says next to nothing


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.evaluate", __doc__)
    parser.add_argument("--model", "--weights", type=Path, help="what to evaluate; default the newest run")
    parser.add_argument("--data", type=remote.folder, help="folder of shards; default the one the run was trained with")
    parser.add_argument("--split", help="train, val or test; default test, or val where there is no test")
    parser.add_argument(
        "--resize_as",
        choices=RUNTIMES,
        help="scale photographs as that runtime does by itself, not as the model asks for: what that costs",
    )
    parser.add_argument("--against", type=Path, help="a second model: what the first loses, paired, record by record")
    parser.add_argument("--out", type=Path, help="folder for the report; default beside the model, or runs/NAME")
    geometry.add_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    given = geometry.given(args)
    if args.resize_as and given:
        raise InputError(
            f"--resize_as={args.resize_as} scales and cuts in that runtime's own way; leave out "
            f"{' and '.join(_flags(given))}, or --resize_as"
        )
    from sqznet.core import startup
    from sqznet.data import manifest as manifests
    from sqznet.predict import inference
    from sqznet.runs import run_folder
    from sqznet.runs.run_folder import trained_on

    path = inference.file_of(args.model) if args.model else run_folder.newest(run_folder.BEST)
    # Beside what is evaluated; weights that go by name only are in no folder of the user's.
    beside = path.parent if path.exists() else run_folder.RUNS / path.name
    out = args.out or (path if (path / run_folder.CONFIG).is_file() else beside)
    files.check_folder(out)
    startup.load_tensorflow()
    predictor = inference.load(path).with_geometry(given)
    manifest = manifests.load(args.data or trained_on(predictor.card, path))
    split = args.split or ("test" if "test" in manifest.splits else "val")
    other = inference.load(args.against) if args.against else None
    if other is not None:
        other = other.with_geometry(_at_size(given, predictor.runtime.image_size, other.runtime.image_size))
        other.outputs_of(manifest.classes, manifest.folder)  # refused now, not after the first has been evaluated
    if args.resize_as:
        predictor = resizing_as(predictor, args.resize_as)
    score = evaluate(predictor, manifest, split)
    loss = None if other is None else Loss.of(score, other, evaluate(other, manifest, split))
    report(score, predictor, manifest, split, out, args.resize_as, loss)
    if (path / run_folder.CONFIG).is_file():
        console.next_step("sqznet.export", f"--model={path}", f"--data={manifest.folder}")
    else:
        console.next_step("sqznet.predict", f"--model={path}", "PHOTOGRAPH")
    return 0


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a model loses against another on the same records; shares, so 0.01 is a point."""

    against: str
    top1: float  # of the other
    top5: float
    drop: float  # of top-1; below 0 where the first model is the better one
    drop_interval_95: tuple[float, float]  # paired
    preprocessing: dict[str, Any]  # of the other

    @classmethod
    def of(cls, score: Score, against: Predictor, other: Score) -> Loss:
        from sqznet.core import metrics

        preprocessing = against.card.preprocessing.to_dict()
        return cls(remote.published(against.path), other.top1, other.top5, *metrics.drop(score, other), preprocessing)


def _at_size(geometry: dict[str, Any], size: int, other: int) -> dict[str, Any]:
    """Flags given for a model of one size, for one of another: the crop keeps its share of the photograph."""
    if "resize_to" not in geometry:
        return geometry
    return {**geometry, "resize_to": round(geometry["resize_to"] * other / size)}


def _flags(geometry: dict[str, Any]) -> list[str]:
    """What has been given of `geometry.add_flags`, as on the command line."""
    antialias = {True: "--antialias", False: "--no-antialias"}
    return [antialias[value] if name == "antialias" else f"--{name}={value}" for name, value in geometry.items()]


def resizing_as(predictor: Predictor, runtime: str) -> Predictor:
    """The same model, fed with what a runtime of RUNTIMES makes of a photograph by itself."""
    preprocessing = RUNTIMES[runtime].at(predictor.runtime.image_size)
    return dataclasses.replace(predictor, card=dataclasses.replace(predictor.card, preprocessing=preprocessing))


def evaluate(predictor: Predictor, manifest: Manifest, split: str) -> Score:
    """Scores every record of a split once.

    Raises:
        InputError: no such split, or nothing in it; the model's classes are not the data's; or its answers are no
            probabilities.
    """
    from sqznet.core import metrics
    from sqznet.data import pipeline

    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    total = manifest.records(split)
    if not total:
        raise InputError(f"{manifest.folder} has no records in {split} to evaluate on")
    tally, done = metrics.Tally(predictor.runtime.classes), 0  # probabilities of a thousand classes fill the memory
    with console.progress("images/s") as bar:
        task = bar.add_task(f"evaluating {predictor.path.name} on {split}", total=total)
        for images, labels in pipeline.examples(manifest, split, predictor.card.preprocessing, None, BATCH):
            tally.add(_predict(predictor, images, f"{split} of {manifest.folder}", done), outputs[labels])
            done += len(labels)
            bar.advance(task, len(labels))
    score = tally.score()
    if score.n != total:
        raise InputError(f"{score.n:,} of {total:,} records of {split} were scored; {pipeline.VERIFY}")
    return score


def _predict(predictor: Predictor, images: np.ndarray, where: str, first: int) -> np.ndarray:
    """`Predictor.predict`, whose error then also says which records these were."""
    try:
        return predictor.predict(images)
    except InputError as error:
        raise InputError(f"{error} (records {first} to {first + len(images) - 1}, 0 first, of {where})") from None


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
        resize_as: the runtime of RUNTIMES that the predictor's preprocessing is of, where it is not the model's own;
            the files' names have it, as they have the predictor's `geometry`.
        loss: against another model, where there is one.
    """
    import numpy as np

    from sqznet.core import metrics, plots
    from sqznet.network import labels
    from sqznet.runs import run_folder

    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    # Of a model with more classes than the data, all are there to be mistaken for, but only the data's are drawn.
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
        values = (flag.removeprefix("--").partition("=") for flag in _flags(predictor.geometry))
        stem = "-".join([stem, "resized", *(value or name for name, _, value in values)])
        otherwise = f", {' '.join(_flags(predictor.geometry))}"
    title = f"{predictor.path.name} on {split}{otherwise}"
    with console.doing("drawing the confusion matrix"):
        plots.confusion_matrix(drawn, names, out / f"confusion-{stem}.png", title, totals=totals)
    content = to_json(score, predictor, manifest, split, note, resize_as, loss)
    files.write_json(out / f"evaluation-{stem}.json", content)
    all_names = labels.readable(predictor.card.classes or manifest.classes)
    _print_by_class(score, all_names)
    console.table(
        ["data", "split", "n", "measure", "accuracy", "95 % interval"],
        [
            [manifest.folder, split, score.n, name, console.percent(share), _interval(interval)]
            for name, share, interval in (
                ("rank-1 (top-1)", score.top1, score.top1_interval),
                ("rank-5 (top-5)", score.top5, score.top5_interval),
            )[: 2 if 5 in metrics.ranks(len(score.confusion)) else 1]
        ],
        title=f"{predictor.path}{otherwise}",
    )
    if loss:
        _print_loss(loss, 5 in metrics.ranks(len(score.confusion)))
    if note:
        console.result(f"note: {note}")
    console.result(f"report: {out / f'evaluation-{stem}.json'}, {out / f'confusion-{stem}.png'}")


def _contamination(predictor: Predictor, manifest: Manifest, split: str) -> str | None:
    """A warning where the network has seen these photographs in its training, or may have."""
    from sqznet.data import provenance

    if predictor.card.pretrained_on is None:
        return None
    seen = provenance.imagenet_train_photographs(manifest, split)
    if not seen:
        return None
    return (
        f"{seen:,} of {manifest.records(split):,} records of {split} are named like ImageNet train photographs, and "
        f"published weights that this model stems from were trained on {predictor.card.pretrained_on}: this is its "
        "accuracy on photographs it has seen, and says little of new ones"
    )


def _changed_since(model: Path, manifest: Manifest) -> str | None:
    """A warning where the set of a run was built again (`sqznet.data --update`) since the run was trained on it."""
    from sqznet.runs import run_folder

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


def to_json(
    score: Score,
    predictor: Predictor,
    manifest: Manifest,
    split: str,
    note: str | None,
    resize_as: str | None = None,
    loss: Loss | None = None,
) -> dict[str, Any]:
    """The report; `confusion` lists [true output, predicted output, records], where there are any."""
    import numpy as np

    from sqznet.data import sources

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
        "note": note,
        "resize_as": resize_as,
        "geometry_override": predictor.geometry or None,
        "loss": dataclasses.asdict(loss) if loss else None,
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
    """All classes, or the worst of many, of those that have enough records to say so."""
    from sqznet.core import metrics

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
        enough = [row for row in rows if row[1] >= LEAST_RECORDS]
        few = f"{len(rows) - len(enough):,} of {len(rows):,} classes have fewer than {LEAST_RECORDS} records"
        if not enough:
            console.result(f"no table of the worst classes: {few}, which say next to nothing (all are in the report)")
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


if __name__ == "__main__":
    cli.run(main)
