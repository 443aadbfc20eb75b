"""How the figures of a manifest read, in report.html and in MODEL_CARD.md alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.network import coverage
from sqznet.weights.catalogue import CATALOGUE

FORMATS = {"savedmodel": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}  # in the order of reports
QUANTIZATIONS = {
    "none": "float32",
    "float16": "float16 weights",
    "dynamic": "int8 weights",
    "int8": "int8 weights and activations",
}
PORTS = ["file", "format", "input", "output", "probability"]
Entries = list[tuple[str, dict[str, Any]]]  # file name, its entry of manifest["files"]


def name_of(folder: Path) -> str:
    """The name of a bundle, also while its folder still has the temporary name of `files.replacing`."""
    return re.sub(rf"^{re.escape(files.TEMPORARY_PREFIX)}[0-9a-f]+-", "", folder.resolve().name)


def in_order(manifest: dict[str, Any]) -> Entries:
    """The files of a manifest by format, layout and quantization, however the manifest orders them."""

    def place(item: tuple[str, dict[str, Any]]) -> tuple[int, bool, int, str]:
        name, entry = item
        formats, quantizations = list(FORMATS), list(QUANTIZATIONS)
        return (
            formats.index(entry["format"]),
            entry["input"]["layout"] != "NHWC",
            quantizations.index(entry["quantize"]),
            name,
        )

    return sorted(manifest["files"].items(), key=place)


def kind(entry: dict[str, Any]) -> str:
    return f"{FORMATS[entry['format']]}, {QUANTIZATIONS[entry['quantize']]}"


def share(value: float, interval: tuple[float, float], n: int) -> str:
    """86.80 % (868 of 1,000; 85.70 to 87.82): with the records that it counts, and its 95 % interval."""
    low, high = interval
    return f"{100 * value:.2f} % ({counted(value, n)}; {100 * low:.2f} to {100 * high:.2f})"


def counted(value: float, n: int) -> str:
    """868 of 1,000, of a share of n records."""
    return f"{round(value * n):,} of {n:,}"


def same_answers(proof: dict[str, Any]) -> str:
    return f"{100 * proof['top1_agreement']:.2f} % ({counted(proof['top1_agreement'], proof['n'])})"


def points(value: float, interval: tuple[float, float]) -> str:
    """A difference of shares in percentage points: 0.20 (-0.10 to 0.50)."""
    return f"{points_of(value)} ({points_of(interval[0])} to {points_of(interval[1])})"


def points_of(value: float) -> str:
    text = f"{100 * value:.2f}"
    return "0.00" if text == "-0.00" else text


def shape(sizes: list[int | None]) -> str:
    """nx224x224x3, where n stands for any number; without spaces, so that no line breaks in it."""
    return "x".join("n" if size is None else str(size) for size in sizes)


def probability(output: dict[str, Any]) -> str:
    """What to do with the values that a file puts out."""
    scale, zero_point = output["scale"], output["zero_point"]
    if (scale, zero_point) == (1, 0):
        return "the value"
    return f"{scale:g} x value" if zero_point == 0 else f"{scale:g} x (value - {zero_point})"


def ports(name: str, entry: dict[str, Any]) -> list[str]:
    """A line of the table PORTS."""
    image, output = (
        f"{port['name']}, {port['dtype']}, {shape(port['shape'])}" for port in (entry["input"], entry["output"])
    )
    return [name, entry["version"], f"{image} ({entry['input']['layout']})", output, probability(entry["output"])]


def contract(manifest: dict[str, Any]) -> list[str]:
    """What to do with a photograph, and with what comes out, in steps."""
    wanted = manifest["preprocessing"]
    steps, (low, high) = wanted["steps"], wanted["range"]
    return [
        f"{steps[:1].upper()}{steps[1:]}.",
        f"The pixels are {wanted['colour_order']}, {low} to {high}, as the type and in the order of the file's input: "
        "NHWC is rows, columns, colours, and NCHW is colours, rows, columns.",
        "The file puts out one value for each class, in the order of the lines of "
        f"{manifest['labels']['file']}. The last column below makes probabilities of them, which add up to 1 but for "
        "rounding.",
    ]


def origin(manifest: dict[str, Any]) -> str:
    """Where the weights come from, in a sentence without its full stop."""
    data, weights = manifest["data"], manifest["weights"]
    if weights is None:
        return f"trained from scratch with sqznet on {data}" if data else "trained with sqznet"
    published = f"published weights ({weights.get('file', 'of unknown name')}"
    published += f", from {weights['url']})" if "url" in weights else ")"
    return f"fine-tuned with sqznet on {data}, from {published}" if data else f"{published}, as they are"


def licence(weights: dict[str, Any] | None) -> str:
    """The terms of the weights, in a sentence without its full stop."""
    if weights is None:
        return "trained from scratch with sqznet; the licence of the photographs decides"
    by_hash = {entry.sha256: entry.licence for entry in CATALOGUE.values()}
    stated = weights.get("licence") or by_hash.get(weights.get("sha256", ""))
    if stated is None:
        return "not known: the published weights it stems from came as a file; ask where that file came from"
    if stated == "none stated":
        return "the authors of the published weights state none"
    return f"{stated}, as the published weights it stems from"


def calibration(manifest: dict[str, Any]) -> str | None:
    """What the ranges of the int8 activations were measured on; None where no file has any."""
    used = manifest["calibration"]
    return records(used["records"], used) if used else None


def records(count: int, of: dict[str, Any]) -> str:
    """1,000 records of data/pictures, test (10 of 1,000 classes)."""
    covered = coverage.read(of)
    return f"{count:,} records of {of['data']}, {of['split']}" + (f" ({covered})" if covered else "")


def warnings(manifest: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """What to keep in mind of the figures."""
    found = [contamination(manifest), few_classes(manifest, reference), manifest.get("gate", {}).get("warning")]
    return [warning for warning in found if warning]


def few_classes(manifest: dict[str, Any], reference: dict[str, Any]) -> str | None:
    """What to keep in mind where few of the model's classes were measured, or calibrated on."""
    return coverage.warning(coverage.read(reference), coverage.read(manifest["calibration"] or {}))


def contamination(manifest: dict[str, Any]) -> str | None:
    """What to keep in mind of the accuracy of a model that stems from published weights."""
    if manifest["pretrained_on"] is None:
        return None
    return (
        f"The weights stem from ones that were trained on {manifest['pretrained_on']}. Accuracy on photographs of that "
        "set says little of new ones, whichever split they are in here."
    )
