"""Writes README.md of a bundle for the people who receive it, and the file with the licence of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.export import formatting, rendering

FILE = "README.md"
LICENCE = "LICENSE_WEIGHTS.txt"
_TEXTS = ("BSD-2-Clause",)  # licences of the catalogue of weights whose text is in templates/
_USES = {
    ("tflite", "none"): "Android, iOS, the web and Python, with LiteRT",
    ("tflite", "float16"): "a phone's GPU; half the size",
    ("tflite", "dynamic"): "a phone's CPU; a quarter of the size, computes in float32",
    ("tflite", "int8"): "a phone's CPU, an NPU or a DSP; a quarter of the size, computes in integers",
    ("onnx", "none"): "ONNX Runtime on servers, desktops and the web",
    ("onnx", "float16"): "ONNX Runtime; half the size",
    ("onnx", "int8"): "ONNX Runtime on a CPU or an NPU; a quarter of the size, computes in integers",
    ("savedmodel", "none"): "TensorFlow and TensorFlow Serving",
}


def write(folder: Path, manifest: dict[str, Any], labels: tuple[str, ...]) -> None:
    """Writes README.md and LICENSE_WEIGHTS.txt.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
    """
    entries = formatting.in_order(manifest)
    stated = formatting.stated_licence(manifest["weights"])
    values = {
        "name": formatting.name_of(folder),
        "manifest": manifest,
        "formatting": formatting,
        "licence_file": LICENCE,
        "text": f"{stated}.txt" if stated in _TEXTS else None,
    }
    rows = [[f"`{name}`", _use(entry), f"{entry['bytes']:,}"] for name, entry in entries]
    content = rendering.render("README.md.j2", files=rows, labels=labels, python=_for_python(entries), **values)
    files.write_text(folder / FILE, content)
    files.write_text(folder / LICENCE, rendering.render("LICENSE_WEIGHTS.txt.j2", **values))


def _use(entry: dict[str, Any]) -> str:
    """Returns where a file runs."""
    channels = "; channels first, (n, 3, size, size)" if entry["input"]["layout"] == "NCHW" else ""
    return _USES[entry["format"], entry["quantize"]] + channels


def _for_python(entries: formatting.Entries) -> list[tuple[str, str, str]]:
    """Returns the packages that run files of this bundle in Python, with the suffix and the name of such a file."""
    packages = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
    first = {entry["format"]: name for name, entry in reversed(entries)}
    return [(package, f".{name}", first[name]) for name, package in packages.items() if name in first]
