"""The folder that leaves the house: every asked-for format, proved, with labels.txt and manifest.json."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import console, files, inference, labels, metrics
from sqznet.errors import InputError
from sqznet.export import budget as sizes
from sqznet.export import fold, onnx, saved_model, tflite, verify

if TYPE_CHECKING:
    import keras

    from sqznet.data.manifest import Manifest
    from sqznet.keras_file import Card

QUANTIZATIONS = ("none", "float16")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Format:
    write: Callable[[keras.Model, Path, str], None]
    file_names: dict[str, str]  # quantization to file name; only the quantizations that the format has
    batch: int | None  # images at a time; None: any


FORMATS = {
    "savedmodel": Format(lambda model, path, _: saved_model.write(model, path), {"none": "savedmodel"}, None),
    "tflite": Format(tflite.write, {"none": "model.tflite", "float16": "model_float16.tflite"}, 1),
    "onnx": Format(onnx.write, {"none": "model.onnx", "float16": "model_float16.onnx"}, None),
}


@dataclass(frozen=True)
class Exported:
    format: str
    path: Path
    bytes: int
    proof: verify.Proof


def choose(format_name: str, quantize: str) -> list[str]:
    """The formats that `--format` and `--quantize` mean.

    Raises:
        InputError: an unknown name, or a format that has no such quantization.
    """
    if format_name != "all" and format_name not in FORMATS:
        raise InputError(f"no format {format_name!r}; there are {', '.join(FORMATS)}, and all")
    if quantize not in QUANTIZATIONS:
        raise InputError(f"no quantization {quantize!r}; there are {', '.join(QUANTIZATIONS)}")
    able = [name for name, each in FORMATS.items() if quantize in each.file_names]
    if format_name == "all":
        return able
    if format_name not in able:
        raise InputError(f"{format_name} has no {quantize} variant; {', '.join(able)} have")
    return [format_name]


def export(
    source: Path,
    trained: keras.Model,
    card: Card,
    manifest: Manifest,
    *,
    formats: list[str],
    quantize: str,
    budget: int,
    split: str,
    records: int | None,
    out: Path,
) -> tuple[list[Exported], verify.Reference]:
    """Writes, reloads, compares; keeps the files only if every one of them holds.

    Args:
        source: where `trained` and its card come from, for messages.
        manifest: the records to compare on, `records` of `split` (None: all).
        budget: most bytes a file, or a SavedModel folder, may have.

    Raises:
        InputError: over budget, or not equal to the Keras model; nothing of the asked-for formats is left in `out`.
    """
    assert card.classes is not None
    folded = fold.inference_model(trained, card.preprocessing.image_size)
    total = manifest.records(split)
    console.say(f"running the Keras model on {min(records or total, total):,} of {total:,} records of {split}")
    against = verify.reference(inference.of_keras(source, trained, card), manifest, split, records)
    exported = []
    paths = {name: out / FORMATS[name].file_names[quantize] for name in formats}
    try:
        with contextlib.ExitStack() as unfinished:  # all are renamed into place, or none
            for name, path in paths.items():
                temporary = unfinished.enter_context(files.replacing(path))
                FORMATS[name].write(folded, temporary, quantize)
                size = files.size_of(temporary)
                if size > budget:
                    raise InputError(_over_budget(name, size, budget, quantize))
                exported.append(Exported(name, path, size, verify.prove(temporary, quantize, against)))
    except BaseException:
        _withdraw(list(paths.values()), out)  # an older export must not be taken for this one
        raise
    _describe(out, card, exported, against, quantize, _sha256_of_weights(folded))
    return exported, against


def _withdraw(paths: list[Path], out: Path) -> None:
    """Removes files and what manifest.json says of them."""
    for path in paths:
        files.remove(path)
    manifest = out / MANIFEST
    if manifest.is_file():
        content = json.loads(manifest.read_text())
        gone = {path.name for path in paths}
        content["files"] = {name: entry for name, entry in content["files"].items() if name not in gone}
        files.write_json(manifest, content)


def _over_budget(name: str, size: int, budget: int, quantize: str) -> str:
    advice = "--arch=v1.1 trains a slightly smaller network"
    if quantize == "none" and name != "savedmodel":
        advice = "--quantize=float16 halves the file"
    return (
        f"{name} is {sizes.describe(size)}, over the budget of {sizes.describe(budget)}; nothing was written. "
        f"Raise --budget, or: {advice}"
    )


def _sha256_of_weights(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _describe(
    out: Path,
    card: Card,
    exported: list[Exported],
    against: verify.Reference,
    quantize: str,
    model_sha256: str,
) -> None:
    """Writes labels.txt and manifest.json; drops what an earlier model of the same name left."""
    assert card.classes is not None
    path = out / MANIFEST
    entries: dict[str, Any] = {}
    if path.is_file():
        before = json.loads(path.read_text())
        if before.get("model_sha256") == model_sha256:
            entries = {name: entry for name, entry in before["files"].items() if (out / name).exists()}
        else:
            new = {each.path.name for each in exported}
            for name in before["files"]:
                if name not in new and Path(name).name == name:
                    files.remove(out / name)
    for each in exported:
        entries[each.path.name] = _entry(each, against, quantize, card.preprocessing.image_size, len(card.classes))
    files.write_text(out / "labels.txt", "".join(f"{name}\n" for name in labels.readable(card.classes)))
    files.write_json(
        path,
        {
            **card.to_dict(),
            "model_sha256": model_sha256,
            "preprocessing": {
                **card.preprocessing.to_dict(),
                "colour_order": "RGB",
                "range": [0, 255],
                "layout": "NHWC",
                "steps": card.preprocessing.steps,
            },
            "files": entries,
        },
    )


def _entry(exported: Exported, against: verify.Reference, quantize: str, size: int, classes: int) -> dict[str, Any]:
    batch = FORMATS[exported.format].batch
    score, proof = exported.proof.score, exported.proof
    whole = {"sha256": files.sha256_of(exported.path)} if exported.path.is_file() else {}
    return {
        "format": exported.format,
        "quantize": quantize,
        "bytes": exported.bytes,
        **whole,
        "input": {"name": "image", "dtype": "float32", "shape": [batch, size, size, 3]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": [batch, classes]},
        "proof": {
            "data": str(against.data),
            "split": against.split,
            "n": score.n,
            "top1": score.top1,
            "top1_interval_95": score.top1_interval,
            "top5": score.top5,
            "largest_difference": proof.largest_difference,
            "top1_agreement": proof.agreement,
        },
    }


def print_table(exported: list[Exported], against: verify.Reference, budget: int) -> None:
    """The table that ends an export."""

    def accuracy(score: metrics.Score) -> list[str]:
        return [console.percent(score.top1), console.percent(score.top5)]

    rows = [
        [
            each.path.name,
            f"{each.bytes:,}",
            f"{each.bytes / 1000**2:.3f}",
            f"{each.bytes / 1024**2:.3f}",
            "yes" if each.bytes <= budget else "NO",
            f"{each.proof.largest_difference:.1e}",
            *accuracy(each.proof.score),
            console.percent(each.proof.agreement),
        ]
        for each in exported
    ]
    rows.append(["Keras model", "-", "-", "-", "-", "-", *accuracy(against.score), "-"])
    console.table(
        ["format", "bytes", "MB", "MiB", "within budget", "largest difference", "top-1", "top-5", "top-1 agreement"],
        rows,
        title=f"{len(against.labels)} records of {against.data}, {against.split}; budget {sizes.describe(budget)}",
    )
