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
    listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    listed |= {manifest["labels"]["file"]: manifest["labels"]["sha256"], **manifest["programs"]}
    changed = [name for name, sha256 in listed.items() if sha256_of(folder / name, sha256) != sha256]
    passed = [report(False, name, "is missing or was changed") for name in changed]
    ran = 0
    for name, entry in manifest["files"].items():
        if name in changed:
            continue
        if entry["format"] == "savedmodel" or not model_file.can_run(folder / name):
            what = "this program runs no" if entry["format"] == "savedmodel" else "no installed package runs"
            report(True, name, f"has its sha256; it was not run: {what} {entry['format']} files")
            continue
        run, _, labels = model_file.load(folder / name)
        expected, output = golden["expected"][name], entry["output"]
        stored = np.fromfile(folder / "golden" / expected["file"], np.dtype(expected["dtype"]).newbyteorder("<"))
        wanted = (stored.reshape(expected["shape"]).astype(float) - output["zero_point"]) * output["scale"]
        difference = np.abs([run(pixels) for pixels in inputs] - wanted).max()  # a NaN does not pass
        fits = difference <= expected["tolerance"] and len(labels) == wanted.shape[1]
        text = f"has its sha256; golden outputs differ by {difference:.1e}, allowed {expected['tolerance']:.0e}"
        passed.append(report(fits, name, text))
        ran += 1
    for name in (golden["photo"], golden["photo_turned"]):
        passed.append(check_photograph(folder / "golden" / name, inputs[0], manifest["preprocessing"]))
    print(f"{len(listed) - len(changed)} of {len(listed)} files have their sha256; {ran} model files were run")
    if not ran:
        print("no model file was run: pip install ai-edge-litert for .tflite files, onnxruntime for .onnx files")
    return 0 if ran and all(passed) else 1


def check_photograph(path, wanted, preprocessing):
    if importlib.util.find_spec("PIL") is None:
        return report(True, path.name, "was not prepared, because Pillow is not installed")
    import photograph

    mean = np.abs(photograph.read(path, preprocessing).astype(int) - wanted).mean()
    return report(mean <= MEAN_LEVELS, path.name, f"pixels differ by {mean:.2f} of 255, allowed {MEAN_LEVELS}")


def sha256_of(path, wanted):
    """Returns the sha256 of a file, or those of the files below the folder of a SavedModel."""
    if isinstance(wanted, dict):
        return {name: sha256_of(path / name, "") for name in wanted}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def report(passed, name, text):
    print("ok   " if passed else "WRONG", f"{name} {text}")
    return passed


if __name__ == "__main__":
    sys.exit(main())
