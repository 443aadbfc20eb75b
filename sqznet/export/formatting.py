"""Formats the figures of a manifest as texts for report.html and MODEL_CARD.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.network import coverage
from sqznet.weights.catalogue import CATALOGUE

FORMAT_NAMES = {"savedmodel": "SavedModel", "tflite": "TFLite", "onnx": "ONNX"}  # in the order of reports
QUANTIZATION_NAMES = {
    "none": "float32",
    "float16": "float16 weights",
    "dynamic": "int8 weights",
    "int8": "int8 weights and activations",
}
QUALITY = ["ECE", "NLL", "Brier score", "balanced accuracy", "macro F1"]
PORTS = ["file", "format", "input", "output", "probability"]
ANSWERED = ["threshold", "answered", "accuracy of the answered (records; 95 % interval)"]
NONE_STATED = "none stated"  # the licence in the catalogue of weights whose authors name none
Entries = list[tuple[str, dict[str, Any]]]  # file name, its entry of manifest["files"]


def name_of(folder: Path) -> str:
    """Returns the name of a bundle, also while its folder still has the temporary name of `files.replacing`."""
    return re.sub(rf"^{re.escape(files.TEMPORARY_PREFIX)}[0-9a-f]+-", "", folder.resolve().name)


def in_order(manifest: dict[str, Any]) -> Entries:
    """Sorts the files of a manifest by format, layout and quantization. Their order in the manifest does not matter."""
    formats, quantizations = list(FORMAT_NAMES), list(QUANTIZATION_NAMES)

    def rank(item: tuple[str, dict[str, Any]]) -> tuple[int, bool, int, str]:
        name, entry = item
        is_nchw = entry["input"]["layout"] != "NHWC"
        return formats.index(entry["format"]), is_nchw, quantizations.index(entry["quantize"]), name

    return sorted(manifest["files"].items(), key=rank)


def markdown(text: str) -> str:
    """Puts a text on one line, and escapes every character that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_\[\]<>|#~&$]|:(?=[\w+-]+:))", r"\\\1", " ".join(str(text).split()))


def kind(entry: dict[str, Any]) -> str:
    return f"{FORMAT_NAMES[entry['format']]}, {QUANTIZATION_NAMES[entry['quantize']]}"


def accuracy(score: dict[str, Any], key: str) -> str:
    """Formats an accuracy in a score of the manifest. `key` is "top1" or "top5"."""
    return share(score[key], score[f"{key}_interval_95"], score["n"])


def share(value: float, interval: tuple[float, float], n: int) -> str:
    """Formats a share with its records and its 95 % interval: 86.80 % (868 of 1,000; 85.70 to 87.82)."""
    low, high = interval
    return f"{100 * value:.2f} % ({counted(value, n)}; {100 * low:.2f} to {100 * high:.2f})"


def counted(value: float, n: int) -> str:
    """Formats a share of n records: 868 of 1,000."""
    return f"{round(value * n):,} of {n:,}"


def same_answers(result: dict[str, Any]) -> str:
    return f"{100 * result['top1_agreement']:.2f} % ({counted(result['top1_agreement'], result['n'])})"


def points(value: float, interval: tuple[float, float]) -> str:
    """Formats a difference of shares in percentage points: 0.20 (-0.10 to 0.50)."""
    return f"{points_of(value)} ({points_of(interval[0])} to {points_of(interval[1])})"


def points_of(value: float) -> str:
    text = f"{100 * value:.2f}"
    return "0.00" if text == "-0.00" else text


def quality(score: dict[str, Any]) -> list[str]:
    """Returns a line of the table QUALITY."""
    averages = (f"{100 * score[name]:.2f} %" for name in ("balanced_accuracy", "macro_f1"))
    return [f"{100 * score['ece']:.2f} %", f"{score['nll']:.4f}", f"{score['brier']:.4f}", *averages]


def temperature(manifest: dict[str, Any]) -> str:
    """Says whether the probabilities were calibrated, and on what."""
    fitted = manifest.get("temperature")
    if fitted is None:
        return "The probabilities are those of the network. They were not calibrated."
    text = (
        f"The probabilities were calibrated: every file divides its logits by the temperature {fitted['value']:.4f}, "
        f"which was fitted on {fitted['records']:,} records of {fitted['split']}."
    )
    if any(entry["proof"].get("records_sha256") == fitted["records_sha256"] for entry in manifest["files"].values()):
        text += " The accuracy was measured on the same records: on other records the calibration error may be higher."
    return text


def shape(sizes: list[int | None]) -> str:
    """Formats a shape as nx224x224x3, where n means any number. The text has no spaces, so no line breaks inside it."""
    return "x".join("n" if size is None else str(size) for size in sizes)


def probability(output: dict[str, Any]) -> str:
    """Returns the formula from an output value to a probability."""
    scale, zero_point = output["scale"], output["zero_point"]
    if (scale, zero_point) == (1, 0):
        return "the value"
    return f"{scale:g} x value" if zero_point == 0 else f"{scale:g} x (value - {zero_point})"


def ports(name: str, entry: dict[str, Any]) -> list[str]:
    """Returns a line of the table PORTS."""
    image, output = (
        f"{port['name']}, {port['dtype']}, {shape(port['shape'])}" for port in (entry["input"], entry["output"])
    )
    if "class_map" in entry:
        maps = entry["class_map"]
        output += f"; {maps['name']}, {maps['dtype']}, {shape(maps['shape'])}"
    return [name, entry["version"], f"{image} ({entry['input']['layout']})", output, probability(entry["output"])]


def contract(manifest: dict[str, Any]) -> list[str]:
    """Returns the steps from a photograph to probabilities."""
    wanted = manifest["preprocessing"]
    steps, (low, high) = wanted["steps"], wanted["range"]
    maps = next((entry["class_map"] for entry in manifest["files"].values() if "class_map" in entry), None)
    of_maps = [] if maps is None else [_map_contract(maps)]
    return [
        f"{steps[:1].upper()}{steps[1:]}.",
        f"The pixels are {wanted['colour_order']}, {low} to {high}, in the type and layout of the file's input: NHWC "
        "is rows, columns, colours; NCHW is colours, rows, columns.",
        "The output has one value for each class, in the order of the lines of "
        f"{manifest['labels']['file']}. The last column below converts them to probabilities, which add up to 1 except "
        "for rounding.",
        *of_maps,
    ]


def _map_contract(maps: dict[str, Any]) -> str:
    return (
        f"The second output, {maps['name']}, has the scores of each class by place: rows, columns, classes. The "
        "average over rows and columns gives the logits, and the softmax of the logits gives the probabilities. The "
        f"centre of the cell in row r and column c is at {maps['offset']:g} + {maps['stride']:g} r pixels from the top "
        f"of the input and {maps['offset']:g} + {maps['stride']:g} c pixels from its left."
    )


def answered_rows(manifest: dict[str, Any]) -> list[list[str]]:
    """Returns the lines of the table ANSWERED: the answered records at each threshold, and their accuracy."""
    chosen = (manifest.get("threshold") or {}).get("value")
    return [
        [
            f"{row['threshold']:g}" + (" (chosen)" if row["threshold"] == chosen else ""),
            f"{100 * row['share']:.2f} % ({row['n']:,} of {round(row['n'] / row['share']):,})",
            share(row["accuracy"], row["accuracy_interval_95"], row["n"]),
        ]
        for row in manifest.get("answered") or []
    ]


def answered_text(manifest: dict[str, Any]) -> str:
    """Describes the table of `answered_rows`, and the chosen threshold."""
    fitted, chosen = manifest["temperature"], manifest.get("threshold")
    text = (
        f"The calibrated Keras model on {fitted['records']:,} records of {fitted['split']}. A record is answered if "
        "its largest probability is at least the threshold."
    )
    if chosen is None:
        return f"{text} These files answer every photograph: they were exported without --min_precision."
    return (
        f'{text} These files answer "not sure" below {chosen["value"]:g}, the lowest threshold of the table at which '
        f"at least {100 * chosen['min_precision']:g} % of the answers are right. On other photographs, this share "
        "differs."
    )


def origin(manifest: dict[str, Any]) -> str:
    """Describes the source of the weights, as a sentence without its full stop."""
    data, weights = manifest["data"], manifest["weights"]
    if weights is None:
        return f"trained from scratch with sqznet on {data}" if data else "trained with sqznet"
    source = f", from {weights['url']}" if "url" in weights else ""
    published = f"published weights ({weights.get('file', 'of unknown name')}{source})"
    return f"fine-tuned with sqznet on {data}, from {published}" if data else f"{published}, unchanged"


def licence(weights: dict[str, Any] | None) -> str:
    """Describes the terms of the weights, as a sentence without its full stop."""
    if weights is None:
        return (
            "not stated; the weights were trained from scratch with sqznet, so whoever trained them chooses the "
            "licence, and the licence of the photographs may limit the choice"
        )
    stated = stated_licence(weights)
    if stated is None:
        return "not known; the published weights were given as a file, so ask where that file came from"
    if stated == NONE_STATED:
        return "the authors of the published weights state none"
    return f"{stated}, the licence of the published weights"


def stated_licence(weights: dict[str, Any] | None) -> str | None:
    """Returns the licence of the published weights, as their catalogue names it. Returns None if it is not known."""
    by_hash = {entry.sha256: entry.licence for entry in CATALOGUE.values()}
    stated = (weights or {}).get("licence") or by_hash.get((weights or {}).get("sha256", ""))
    return None if stated is None else str(stated)


def yaml(text: str) -> str:
    """Returns a string literal of YAML. Characters that do not print are written as numbers."""
    special = {"\\": "\\\\", '"': '\\"'}
    parts = (special.get(each) or (each if each.isprintable() else f"\\U{ord(each):08x}") for each in str(text))
    return f'"{"".join(parts)}"'


def calibration(manifest: dict[str, Any]) -> str | None:
    """Describes the records that the int8 activations were calibrated on. Returns None without int8 files."""
    used = manifest["calibration"]
    return records(used["records"], used) if used else None


def records(count: int, of: dict[str, Any]) -> str:
    """Formats a number of records: 1,000 records of data/pictures, test (10 of 1,000 classes)."""
    covered = coverage.read(of)
    return f"{count:,} records of {of['data']}, {of['split']}" + (f" ({covered})" if covered else "")


def warnings(manifest: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Returns the limits of the measured accuracy and losses."""
    few_classes = coverage.warning(coverage.read(reference), coverage.read(manifest["calibration"] or {}))
    found = [contamination(manifest), few_classes, manifest.get("gate", {}).get("warning")]
    return [warning for warning in found if warning]


def contamination(manifest: dict[str, Any]) -> str | None:
    """Describes the limit of the measured accuracy of a model that started from published weights."""
    if manifest["pretrained_on"] is None:
        return None
    return (
        f"The model started from weights that were trained on {manifest['pretrained_on']}. Accuracy on photographs of "
        "that set says little about new ones, whichever split they are in here."
    )
