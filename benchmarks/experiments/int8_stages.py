"""Measures what each stage of the int8 quantization is worth: the same network, calibrated with one more stage a row.

  python -m benchmarks.experiments.int8_stages --model=squeezenet-v1.1 --data=data/sample --split=train

Prints for each row on how many records the int8 ONNX file gives the answer of the Keras model, top-1, and the points
of top-1 lost with their paired 95 % interval. Calibration is on the first 128 records of train.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from sqznet.core import cli, console, metrics, startup
from sqznet.data import manifest as manifests
from sqznet.predict import inference
from sqznet.predict.runtimes import OnnxRuntime

CALIBRATED_ON = 128  # records, as `sqznet.export` does by default


def main() -> int:
    parser = cli.parser("benchmarks.experiments.int8_stages", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="run folder, .keras file or published weights")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--split", default="test", help="of the records that answers are compared on")
    parser.add_argument("--records", type=int, help="how many of them; default all")
    args = parser.parse_args()
    startup.load_tensorflow()
    from sqznet.data import pipeline
    from sqznet.export import onnx_int8
    from sqznet.network import fold
    from sqznet.network.quantization import int8

    trained, card = inference.load_keras(args.model)
    model = fold.inference_model(trained, card.preprocessing.image_size)
    manifest = manifests.load(args.data)
    found = pipeline.examples(manifest, "train", card.preprocessing, CALIBRATED_ON, 32)
    calibration = [images for images, _ in found]
    batches = list(pipeline.examples(manifest, args.split, card.preprocessing, args.records, 50))
    labels = np.concatenate([each for _, each in batches])
    original = np.concatenate([model(images.astype(np.float32)).numpy() for images, _ in batches])
    off = replacements()
    rows = []
    for on in range(len(off) + 1):
        name = f"+ {list(off)[on - 1]}" if on else "largest values, nearest integers"
        with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            for patch in list(off.values())[on:]:
                stack.enter_context(patch)
            path = Path(folder) / "model_int8.onnx"
            onnx_int8.write(int8.quantize(model, calibration), path)
            runtime = OnnxRuntime(path)
            answers = np.concatenate([runtime(images) for images, _ in batches])
        lost, (low, high) = metrics.drop(metrics.score(answers, labels), metrics.score(original, labels))
        same = (answers.argmax(axis=1) == original.argmax(axis=1)).mean()
        top1 = (answers.argmax(axis=1) == labels).mean()
        rows.append(
            [
                name,
                console.percent(same),
                console.percent(top1),
                f"{100 * lost:.2f} ({100 * low:.2f} to {100 * high:.2f})",
            ]
        )
        console.say("  ".join(rows[-1]))
    console.table(["stages", "same answer", "top-1", "points lost"], rows, title=f"{args.model}, n = {len(labels):,}")
    return 0


def replacements() -> dict[str, Any]:
    """For each stage, in order, a patch that replaces it with what quantization does without the stage."""
    from sqznet.network.quantization import calibration, int8

    return {
        "cross-layer equalization": mock.patch.object(int8, "_equalized", lambda model, _: int8._copy(model)),
        "ranges cut at the least squared error": mock.patch.object(int8, "CLIP_RATIOS", np.ones(1)),
        "GPTQ error compensation": mock.patch.object(int8, "_round_kernel", nearest),
        "bias correction": mock.patch.object(calibration, "bias_correction", lambda *_: 0.0),
    }


def nearest(kernel: np.ndarray, scales: np.ndarray, _windows: np.ndarray) -> np.ndarray:
    """Each weight to its nearest integer."""
    return (np.clip(np.round(kernel / scales), -127, 127) * scales).astype(np.float32)


if __name__ == "__main__":
    cli.run(main)
