"""Runs a .tflite file with LiteRT (ai-edge-litert), or an .onnx file with ONNX Runtime. Needs NumPy."""

import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np

PACKAGES = {".tflite": "ai_edge_litert", ".onnx": "onnxruntime"}
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")  # the nearest to the trained model first


def find(folder):
    """Returns the file of a bundle that is nearest to the trained model, of those that an installed package can run."""
    listed = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    usable = [name for name in listed if (folder / name).is_file() and can_run(folder / name)]
    if not usable:
        raise SystemExit(
            f"no file of {folder} can be run: pip install ai-edge-litert or onnxruntime; it has {[*listed]}"
        )
    return folder / min(usable, key=lambda name: (QUANTIZATIONS.index(listed[name]["quantize"]), ".onnx" in name, name))


def can_run(path):
    """Checks whether the package that runs this file is installed."""
    return importlib.util.find_spec(PACKAGES[_suffix(path)]) is not None


def load(path):
    """Loads a model file.

    Returns `run`, the contract in the file (sqznet.json), and the label of each output. `run` takes pixels, uint8
    (size, size, 3), and returns probabilities, float32 (classes,).
    """
    run, texts = {".tflite": _litert, ".onnx": _onnx_runtime}[_suffix(path)](path)
    if "sqznet.json" not in texts:
        raise SystemExit(f"{path} has no sqznet.json, so its crop and classes are unknown: export it with sqznet again")
    contract = json.loads(texts["sqznet.json"])
    return run, contract, texts["labels.txt"].split("\n")[:-1]


def _suffix(path):
    with Path(path).open("rb") as file:
        return ".tflite" if file.read(8)[4:] == b"TFL3" else ".onnx"


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (image,), (output, *_) = interpreter.get_input_details(), interpreter.get_output_details()  # then the class map
    scale, zero_point = output["quantization"]  # 0, 0 for float32

    def run(pixels):
        images = np.broadcast_to(pixels, image["shape"])
        interpreter.set_tensor(image["index"], images.astype(image["dtype"]))
        interpreter.invoke()
        values = interpreter.get_tensor(output["index"])[0].astype(np.float32)
        return (values - np.float32(zero_point)) * np.float32(scale or 1)

    if not zipfile.is_zipfile(path):
        return run, {}
    with zipfile.ZipFile(path) as archive:
        return run, {name: archive.read(name).decode() for name in archive.namelist()}


def _onnx_runtime(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    is_channels_first = image.shape[1] == 3

    def run(pixels):
        images = (pixels.transpose(2, 0, 1) if is_channels_first else pixels)[None].astype(np.float32)
        return session.run(None, {image.name: images})[0][0]

    return run, session.get_modelmeta().custom_metadata_map
