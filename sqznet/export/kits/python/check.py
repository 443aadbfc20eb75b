"""Checks that a bundle is as it was at its export: python check.py [FOLDER]

Compares checksums, runs the golden inputs through every model file, and prepares the golden photographs. Needs NumPy,
and LiteRT (ai-edge-litert) for .tflite files or ONNX Runtime (onnxruntime) for .onnx files. The photographs need
Pillow. The exit code is 1 if a file is wrong, or if no model file could be run.
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import model_file
import numpy as np

MEAN_LEVELS = 2  # of 255: JPEG decoders differ by about 1


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    golden = json.loads((folder / "golden" / "golden.json").read_text("utf-8"))
    inputs = np.fromfile(folder / "golden" / golden["inputs"]["file"], np.uint8).reshape(golden["inputs"]["shape"])
    results = [*sources(folder, manifest), *models(folder, manifest, golden, inputs)]
    results += photographs(folder, manifest, golden, inputs)
    for passed, text in results:
        print("ok   " if passed else "WRONG", text)
    return 0 if all(passed for passed, _ in results) else 1


def sources(folder, manifest):
    listed = {manifest["labels"]["file"]: manifest["labels"]["sha256"], **manifest["programs"]}
    changed = [name for name, sha256 in listed.items() if sha256_of(folder / name, sha256) != sha256]
    yield from ((False, f"{name} is missing or was changed") for name in changed)
    yield not changed, f"labels and programs: {len(listed) - len(changed)} of {len(listed)} files have their sha256"


def models(folder, manifest, golden, inputs):
    ran = 0
    for name, entry in manifest["files"].items():
        path, expected, output = folder / name, golden["expected"][name], entry["output"]
        if sha256_of(path, entry["sha256"]) != entry["sha256"]:
            yield False, f"{name} is missing or was changed"
        elif path.is_dir() or not model_file.can_run(path):
            what = "this program does not run" if path.is_dir() else "no installed package runs"
            yield True, f"{name} has its sha256; it was not run: {what} {entry['format']} files"
        else:
            run, _, _ = model_file.load(path)
            stored = np.fromfile(folder / "golden" / expected["file"], np.dtype(expected["dtype"]).newbyteorder("<"))
            wanted = (stored.reshape(expected["shape"]).astype(float) - output["zero_point"]) * output["scale"]
            largest, allowed = np.abs([run(pixels) for pixels in inputs] - wanted).max(), expected["tolerance"]
            text = f"{name} has its sha256; golden outputs differ by {largest:.1e}, allowed {allowed:.0e}"
            yield largest <= allowed, text  # False for NaN
            ran += 1
    if not ran:
        yield False, "no model file was run: pip install ai-edge-litert for .tflite files, onnxruntime for .onnx files"


def photographs(folder, manifest, golden, inputs):
    for name in (golden["photo"], golden["photo_turned"]):
        if importlib.util.find_spec("PIL") is None:
            yield True, f"{name} was not prepared, because Pillow is not installed"
            continue
        import photograph

        pixels = photograph.read(folder / "golden" / name, manifest["preprocessing"]).astype(int)
        mean = np.abs(pixels - inputs[0]).mean()
        yield mean <= MEAN_LEVELS, f"{name} pixels differ by {mean:.2f} of 255, allowed {MEAN_LEVELS}"


def sha256_of(path, wanted):
    """Returns the sha256 of a file, or of each file in the folder of a SavedModel. A missing file has None."""
    if isinstance(wanted, dict):
        return {name: sha256_of(path / name, "") for name in wanted}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
