"""Measures the calibration of a network before and after temperature scaling, in Keras, float32 and int8 files.

  python -m benchmarks.experiments.temperature --model=runs/NAME --data=data/imagenette

The seed splits val into two halves. The temperature is fitted on the first half. The table shows the second half: the
calibration error (ECE), NLL and Brier score before and after, and the largest difference of a file's probability from
the calibrated Keras model. "ECE of chance" is the mean ECE of a perfectly calibrated model with these confidences on
as many records: labels are drawn from the confidences. The files are model.onnx
and model_int8.tflite. int8 is calibrated on the first 128 records of train.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from sqznet.core import cli, console, metrics, probabilities, startup
from sqznet.data import manifest as manifests
from sqznet.predict import inference
from sqznet.predict.runtimes import OnnxRuntime, Runtime, TfliteRuntime

CALIBRATED_ON = 128  # records, as `sqznet.export` does by default
DRAWS = 200  # of labels, for the ECE of chance


def main() -> int:
    parser = cli.parser("benchmarks.experiments.temperature", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="run folder or .keras file")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--seed", type=int, default=0, help="of the two halves")
    parser.add_argument("--picture", type=Path, help="reliability diagrams of the Keras model, before and after")
    args = parser.parse_args()
    startup.load_tensorflow()
    from sqznet.data import pipeline

    predictor = inference.load(args.model)
    model, card = inference.load_keras(args.model)
    manifest = manifests.load(args.data)
    order = np.random.default_rng(args.seed).permutation(manifest.records("val"))
    is_held_out = np.zeros(len(order), bool)
    is_held_out[order[len(order) // 2 :]] = True
    found, photographs, first = [], [], 0
    for images, some in pipeline.examples(manifest, "val", card.preprocessing, None, 64):
        found.append((model(images, training=False).numpy(), predictor.outputs_of(manifest.classes, args.data)[some]))
        photographs.append(images[is_held_out[first : first + len(images)]])
        first += len(images)
    logits, labels = (np.concatenate(each) for each in zip(*found, strict=True))
    held_out = np.flatnonzero(is_held_out)
    fitted = probabilities.fit_temperature(logits[~is_held_out], labels[~is_held_out])
    console.say(f"temperature {fitted:.4f}, fitted on {len(labels) - len(held_out):,} records")
    calibration = [images for images, _ in pipeline.examples(manifest, "train", card.preprocessing, CALIBRATED_ON, 32)]
    answers: dict[tuple[str, float], np.ndarray] = {}
    for value in (1.0, fitted):
        answers["Keras", value] = probabilities.softmax(logits[held_out] / value)
        with tempfile.TemporaryDirectory() as folder:
            for name, runtime in _files(model, card.preprocessing.image_size, value, calibration, Path(folder)).items():
                console.say(f"running {name}, temperature {value:.4f}")
                size = runtime.batch or 64
                parts = [each[i : i + size] for each in photographs for i in range(0, len(each), size)]
                answers[name, value] = np.concatenate([runtime(part) for part in parts])
    _print(answers, labels[held_out], fitted, args)
    return 0


def _files(model, size: int, value: float, calibration: list[np.ndarray], folder: Path) -> dict[str, Runtime]:
    """Writes the files of a temperature. Returns their runtimes by name."""
    from sqznet.export import onnx, tflite
    from sqznet.network import fold
    from sqznet.network.quantization import int8

    folded = fold.inference_model(model, size, value)
    quantized = int8.quantize(folded, calibration)
    onnx.write(folded, folder / "model.onnx", "none")
    tflite.write_int8(quantized, folder / "model_int8.tflite")
    kinds: dict[str, type[OnnxRuntime] | type[TfliteRuntime]] = {".onnx": OnnxRuntime, ".tflite": TfliteRuntime}
    return {path.name: kinds[path.suffix](path) for path in sorted(folder.iterdir())}


def _score(rows: np.ndarray, labels: np.ndarray, name: str) -> metrics.Score:
    tally = metrics.Tally(rows.shape[1], step=1 / 256 if name == "model_int8.tflite" else 0.0)
    tally.add(rows, labels)
    return tally.score()


def _by_chance(confidences: np.ndarray) -> float:
    random = np.random.default_rng(0)
    drawn = [(random.random(len(confidences)) < confidences).astype(int) for _ in range(DRAWS)]
    errors = [probabilities.calibration_error(probabilities.reliability(confidences, hits)) for hits in drawn]
    return float(np.mean(errors))


def _print(answers: dict[tuple[str, float], np.ndarray], labels: np.ndarray, fitted: float, args) -> None:
    rows = []
    for name in dict.fromkeys(name for name, _ in answers):
        before, after = (_score(answers[name, value], labels, name) for value in (1.0, fitted))
        difference = float(np.abs(answers[name, fitted] - answers["Keras", fitted]).max())
        same = (answers[name, 1.0].argmax(axis=1) == answers[name, fitted].argmax(axis=1)).mean()
        rows.append(
            [
                name,
                f"{100 * before.ece:.2f} -> {100 * after.ece:.2f} %",
                f"{100 * _by_chance(after.confidences):.2f} %",
                f"{before.nll:.4f} -> {after.nll:.4f}",
                f"{before.brier:.4f} -> {after.brier:.4f}",
                f"{console.percent(before.top1)} -> {console.percent(after.top1)}",
                console.percent(float(same)),
                f"{difference:.1e}",
            ]
        )
        if name == "Keras" and args.picture:
            from sqznet.core import plots

            for when, each in (("before", before), ("after", after)):
                path = args.picture.with_name(f"{args.picture.stem}-{when}.png")
                plots.reliability(each.reliability, each.ece, path, f"{when} calibration, n = {each.n:,}")
    columns = ["file", "ECE", "ECE of chance", "NLL", "Brier", "top-1", "same top-1", "largest difference"]
    console.table(columns, rows, title=f"temperature {fitted:.4f}, n = {len(labels):,}")


if __name__ == "__main__":
    cli.run(main)
