"""Compares the kernels that runtimes use for the int8 files of one bundle: answers, accuracy, time.

  python -m sqznet.export --model=squeezenet-v1.1 --data=data/sample --split=train --records=0 --format=all
      --quantize=all --out=export/artifacts/v1.1
  python -m benchmarks.experiments.int8_kernels --bundle=export/artifacts/v1.1 --data=data/sample --split=train

(The first command is one line.) The script writes a copy of `model_int8.onnx` whose weights are int8 in place of uint8:
the same integers with zero point 0. It prints, for each file and kernel, on how many records the likeliest class is
that of the float32 file, top-1, the largest difference of a probability from the first row of the same format, and the
median time of a photograph on one thread. int8 weights give other answers only on x86 processors without VNNI.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sqznet.core import cli, console, startup
from sqznet.data import manifest as manifests
from sqznet.predict import inference

ZERO = 128  # zero point of the weights that the package writes
TIMED = 40  # photographs, in turn over all files
Run = Callable[[np.ndarray], np.ndarray]


def main() -> int:
    parser = cli.parser("benchmarks.experiments.int8_kernels", __doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="a folder of export --format=all --quantize=all")
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--split", default="test", help="of the records that answers are compared on")
    parser.add_argument("--records", type=int, help="how many of them; default all")
    args = parser.parse_args()
    startup.load_tensorflow()
    from sqznet.data import pipeline

    card = inference.load(args.bundle / "model.onnx").card
    manifest = manifests.load(args.data)
    batches = list(pipeline.examples(manifest, args.split, card.preprocessing, args.records, 1))
    images, labels = (np.concatenate(each) for each in zip(*batches, strict=True))
    int8_weights = args.bundle.parent / f"{args.bundle.name}-int8-weights.onnx"
    with_int8_weights(args.bundle / "model_int8.onnx", int8_weights)
    onnx = {
        "ONNX, float32": onnx_run(args.bundle / "model.onnx"),
        "ONNX, uint8 weights": onnx_run(args.bundle / "model_int8.onnx"),
        "ONNX, uint8 weights, graph not optimized": onnx_run(args.bundle / "model_int8.onnx", optimized=False),
        "ONNX, int8 weights": onnx_run(int8_weights),
        "ONNX, int8 weights, x64quantprecision": onnx_run(int8_weights, precise=True),
    }
    tflite = {
        "TFLite int8, XNNPACK": tflite_run(args.bundle / "model_int8.tflite", xnnpack=True),
        "TFLite int8, no XNNPACK": tflite_run(args.bundle / "model_int8.tflite", xnnpack=False),
        "TFLite dynamic, XNNPACK": tflite_run(args.bundle / "model_dynamic.tflite", xnnpack=True),
        "TFLite dynamic, no XNNPACK": tflite_run(args.bundle / "model_dynamic.tflite", xnnpack=False),
    }
    runs = onnx | tflite
    answers = {name: np.concatenate([run(each[None]) for each in images]) for name, run in runs.items()}
    times = {name: [] for name in runs}
    for image in images[:TIMED]:
        for name, run in runs.items():
            started = time.perf_counter()
            run(image[None])
            times[name].append(time.perf_counter() - started)
    wanted = answers["ONNX, float32"].argmax(axis=1)
    rows = []
    for name, probabilities in answers.items():
        first = next(other for other in runs if other.split(",")[0] == name.split(",")[0])
        first = "ONNX, uint8 weights" if "weights" in name else first
        rows.append(
            [
                name,
                f"{100 * (probabilities.argmax(axis=1) == wanted).mean():.2f} %",
                f"{100 * (probabilities.argmax(axis=1) == labels).mean():.2f} %",
                f"{100 * (probabilities.argmax(axis=1) == answers[first].argmax(axis=1)).mean():.2f} %",
                f"{abs(probabilities - answers[first]).max():.1e}",
                f"{1000 * statistics.median(times[name]):.1f}",
            ]
        )
    columns = ["file and kernel", "answer of float32", "top-1", "answer of the default", "largest difference", "ms"]
    console.table(columns, rows, title=f"{args.bundle}, n = {len(labels):,}, one thread")
    return 0


def with_int8_weights(source: Path, target: Path) -> None:
    """Writes the same network with weights as int8 with zero point 0."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        values = numpy_helper.to_array(constants[node.input[0]])
        if values.dtype != np.uint8:
            continue  # a bias, int32
        zeros = numpy_helper.to_array(constants[node.input[2]])
        assert (zeros == ZERO).all(), node.name
        for name, new in ((node.input[0], values.astype(np.int16) - ZERO), (node.input[2], zeros * 0)):
            constants[name].CopyFrom(numpy_helper.from_array(new.astype(np.int8), name))
    target.write_bytes(model.SerializeToString())


def onnx_run(path: Path, *, optimized: bool = True, precise: bool = False) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images.astype(np.float32)})[0]


def tflite_run(path: Path, *, xnnpack: bool) -> Run:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    (before,), (after,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = after["quantization"]

    def run(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(before["index"], images.astype(before["dtype"]))
        interpreter.invoke()
        probabilities = interpreter.get_tensor(after["index"]).astype(np.float32)
        return (probabilities - zero) * scale if scale else probabilities

    return run


if __name__ == "__main__":
    cli.run(main)
