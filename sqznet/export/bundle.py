"""Exports a bundle: a folder with all requested files, verified, and everything that belongs to them.

The folder is written under a temporary name and renamed at the end. If a file fails a gate, there is no new folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sqznet.core import console, files, metrics, remote, sizes, startup
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.export import audit, card, check, golden, onnx, previous, programs, readme, report, transfer, verify
from sqznet.export.variants import ModelToExport, Variant
from sqznet.network import class_map, coverage, fold, labels, metadata
from sqznet.network import model as models
from sqznet.network.class_map import Grid
from sqznet.network.keras_file import Card
from sqznet.predict import inference, latency
from sqznet.runs import run_folder

CALIBRATION_BATCH = 32
MAP_PROOF = ("largest_difference", "largest_logit_difference", "relative_error")  # of verify.MapVerification


@dataclass(frozen=True)
class Gate:
    """The limits that every file has to satisfy, and the records that are compared."""

    budget: int  # maximum bytes of a file, or of a SavedModel folder
    max_drop: float = 0.01  # maximum loss of top-1 accuracy against the Keras model, as a share
    split: str = "test"  # of the records to compare on
    records: int | None = None  # how many of them; None: all


@dataclass(frozen=True)
class ExportedFile:
    variant: Variant
    bytes: int
    map_bytes: int | None  # that the class map adds to the file; None: the file has no class map
    transfer: dict[str, int]  # compressed bytes, by the names of transfer.COMPRESSORS
    verification: verify.Verification


def export(
    source: Path,
    trained: keras.Model,
    card_of_model: Card,
    manifest: Manifest,
    *,
    variants: list[Variant],
    gate: Gate,
    out: Path,
    calibration_records: int = 128,
    sparse: bool = False,
    synthetic: bool = False,
    tflite_batch: int | None = 1,
    with_class_map: bool = False,
    latency_runs: int = 30,
    replace: bool = False,
) -> tuple[list[ExportedFile], verify.Reference]:
    """Writes a bundle, verifies it, and puts it in place by one rename.

    Args:
        source: the file or folder of `trained` and its card, for messages.
        manifest: the set with the records to compare on. int8 is calibrated on its train split.
        out: the bundle's folder. Other files of an existing bundle are kept if they belong to this model.
        sparse: whether int8 kernels have coarse steps, many of them zero, so that a file compresses well.
        synthetic: whether golden/ and the report have synthetic pictures instead of records of the split.
        tflite_batch: images per run of a TFLite file. None means any number.
        with_class_map: whether the files have the class map as a second output.
        latency_runs: timed runs of each file. 0 measures no latency.
        replace: whether an older bundle is removed as a whole.

    Raises:
        InputError: a file fails a gate, or `out` contains something that this export may not replace. An older bundle
            is unchanged then, and nothing of this export is left.
    """
    _require_exportable(source, card_of_model.classes, out)
    older = previous.find(out)
    with previous.state_on_failure(lambda: str(older)), files.replacing(out.resolve()) as folder:
        folder.mkdir()  # checked before the long work, which is lost if the folder cannot be written
        folded = fold.inference_model(trained, card_of_model.preprocessing.image_size, card_of_model.divisor)
        photographs, calibrated_on = _calibration(variants, manifest, card_of_model, gate.split, calibration_records)
        to_export = ModelToExport(folded, photographs, tflite_batch, sparse, with_class_map)
        grid = _grid(trained, card_of_model) if with_class_map else None
        content = _model_entries(card_of_model, folded, calibrated_on)
        compared_on = _records(manifest, gate)
        names = {each.file_name for each in variants}
        kept = {} if replace else older.kept(names, content, compared_on, gate.budget, gate.max_drop)
        writer = _Writer(to_export, card_of_model, source.name, grid)
        map_bytes = {}
        with console.progress("files/s") as bar:
            for variant in bar.track(variants, description="writing the files"):
                _write_checked(variant, writer, gate.budget, folder)
                map_bytes[variant.file_name] = writer.map_bytes(variant, folder)
        against, verifications = verify.verify_files(
            inference.of_keras(source, trained, card_of_model),
            {folder / each.file_name: each.quantize for each in variants},
            manifest,
            gate.split,
            gate.records,
            gate.max_drop,
        )
        exported = []
        with console.doing("compressing the files to measure their download size"):
            for each in variants:
                path = folder / each.file_name
                size, packed = files.size_of(path), transfer.compressed_sizes(path)
                name = each.file_name
                exported.append(ExportedFile(each, size, map_bytes[name], packed, verifications[name]))
        removed = older.copy(kept, folder)
        if synthetic:
            inputs = golden.synthetic_inputs(card_of_model.preprocessing)
        else:
            inputs = golden.of_records(against, manifest, card_of_model.preprocessing)
        quantize = {name: entry["quantize"] for name, entry in kept.items()}
        quantize |= {each.file_name: each.quantize for each in variants}
        with console.doing("writing the golden vectors"):
            golden.write(folder, inputs, {name: folder / name for name in quantize}, quantize)
        scored = {**compared_on, **against.coverage.to_dict()}
        entries = {each.variant.file_name: _file_entry(folder, each, to_export, grid, scored) for each in exported}
        if latency_runs:
            with console.progress("files/s") as bar:
                for name in bar.track(entries, description="timing"):
                    entries[name]["latency"] = latency.measure(folder / name, runs=latency_runs)
        if any(entry["quantize"] == "int8" for entry in kept.values()) and older.manifest:
            content["calibration"] = older.manifest["calibration"]
        content |= {"files": {**kept, **entries}, "gate": _gate_entry(gate, against, manifest)}
        _write_descriptions(folder, source, content, against, gate.budget)
        check.check(folder)
        previous.find(out)  # raises if something was put there in the meantime
        outcome = older.outcome(kept, names, removed)
    if outcome:
        console.say(outcome)
    covered = coverage.read(content["calibration"]) if content["calibration"] else None
    for warning in (content["gate"]["warning"], coverage.warning(against.coverage, covered)):
        if warning:
            console.say(f"warning: {warning}")
    return exported, against


def _require_exportable(source: Path, classes: tuple[str, ...] | None, out: Path) -> None:
    """Checks the classes of a model and the place of its bundle. Raises InputError if they do not allow an export."""
    if classes is None:
        raise InputError(
            f"{source} does not name its classes, and an exported file has to: export the run or .keras file that it "
            "was compressed from"
        )
    if len(classes) < 2:
        raise InputError(
            f"{source} has one class: its answer is always {classes[0]!r}, with probability 1, for any image"
        )
    if out.resolve() == Path.cwd() or any(parent.is_file() for parent in out.resolve().parents):
        raise InputError(f"--out={out} cannot become a bundle's folder: name one that does not exist yet")


def name_of(source: Path) -> str:
    """Returns the name of a model's bundle: the name of its folder (for a run), or its file name without the ending."""
    if source.is_file():
        return source.resolve().parent.name if source.name == run_folder.BEST else source.stem
    return source.resolve().name if source.exists() else source.name


def _records(manifest: Manifest, gate: Gate) -> dict[str, Any]:
    """Identifies by their content the records that files are compared on."""
    total = manifest.records(gate.split)
    return {
        "data": remote.published(manifest.folder),
        "split": gate.split,
        "n": min(gate.records or total, total),
        "records_sha256": manifest.records_sha256(gate.split),
    }


def _calibration(
    variants: list[Variant], manifest: Manifest, card_of_model: Card, compared_split: str, records: int
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """Returns photographs to calibrate int8 on, and their entry in the manifest. Returns none if no file is int8."""
    if not any(each.quantize == "int8" for each in variants):
        return [], None
    split = "train" if "train" in manifest.splits else compared_split
    batches = list(pipeline.examples(manifest, split, card_of_model.preprocessing, records, CALIBRATION_BATCH))
    if not batches:
        raise InputError(f"{manifest.folder} has no records in {split} to calibrate int8 on")
    if split == compared_split:
        console.say(f"int8 is calibrated and compared on the same split, {split}: the set has no train split")
    photographs = [images for images, _ in batches]
    assert card_of_model.classes is not None
    covered = coverage.count([shown for _, shown in batches], len(manifest.classes), len(card_of_model.classes))
    count = sum(map(len, photographs))
    console.say(f"int8 is calibrated on {count:,} records of {split}, which show {covered}")
    entry = {"data": remote.published(manifest.folder), "split": split, "records": count, **covered.to_dict()}
    return photographs, entry


def _grid(trained: keras.Model, card_of_model: Card) -> Grid:
    network, *_ = models.describe(trained, card_of_model.preprocessing.image_size)
    return class_map.grid_of(network, card_of_model.divisor)


@dataclass(frozen=True)
class _Writer:
    """Writes the files of one model."""

    to_export: ModelToExport
    card: Card
    name: str  # of the model, for people
    grid: Grid | None  # of the class map, if the files have one

    def write(self, variant: Variant, path: Path) -> None:
        with startup.quiet():
            variant.write(self.to_export, path)
        metadata.add_card(path, variant.format, self.card, self.name, self.grid)

    def map_bytes(self, variant: Variant, folder: Path) -> int | None:
        """Returns how many bytes of a written file belong to its class map, or None if it has none."""
        if self.grid is None:
            return None
        path = folder / f"{files.TEMPORARY_PREFIX}without-{variant.file_name}"
        _Writer(self.to_export.without_class_map(), self.card, self.name, None).write(variant, path)
        size = files.size_of(path)
        files.remove(path)
        return files.size_of(folder / variant.file_name) - size


def _write_checked(variant: Variant, writer: _Writer, budget: int, folder: Path) -> None:
    """Writes one file. Checks its size, its operators, and that a second conversion gives the same bytes."""
    path = folder / variant.file_name
    writer.write(variant, path)
    size = files.size_of(path)
    if size > budget:
        raise CheckFailed(_over_budget(variant, size, budget))
    audit.check(path, variant.quantize)
    if path.is_file():
        again = folder / f"{files.TEMPORARY_PREFIX}again{path.suffix}"
        writer.write(variant, again)
        if path.read_bytes() != again.read_bytes():
            raise CheckFailed(
                f"{path.name} has other bytes after each conversion; please report this with the run folder"
            )
        files.remove(again)


def _over_budget(variant: Variant, size: int, budget: int) -> str:
    advice = "--arch=v1.1 trains a slightly smaller network"
    if variant.quantize in ("none", "float16") and variant.format != "savedmodel":
        advice = "--quantize=float16 halves the file, int8 quarters it"
    return (
        f"{variant.file_name} is {sizes.describe(size)}, over the budget of {sizes.describe(budget)}. "
        f"Raise --budget, or: {advice}"
    )


def _model_entries(card_of_model: Card, folded: keras.Model, calibrated_on: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the entries of manifest.json about the model, with the types that JSON gives back."""
    digest = hashlib.sha256()
    for variable in folded.variables:
        digest.update(variable.numpy().tobytes())
    content = {
        **metadata.describe(card_of_model),
        "model_sha256": digest.hexdigest(),
        "converters": {name: packages.version(name) for name in ("tensorflow", "tf2onnx", "onnx", "onnxruntime")},
        "calibration": calibrated_on,
    }
    return json.loads(json.dumps(content))


def _gate_entry(gate: Gate, against: verify.Reference, manifest: Manifest) -> dict[str, Any]:
    """Returns the entry of manifest.json about the allowed loss and the smallest loss that the records can show."""
    n = against.score.n
    return {
        "max_drop": gate.max_drop,
        "budget": gate.budget,
        "smallest_drop": 1 / n,
        "warning": metrics.too_few_records(n, manifest.records(gate.split), gate.max_drop),
    }


def _file_entry(
    folder: Path, file: ExportedFile, to_export: ModelToExport, grid: Grid | None, scored: dict[str, Any]
) -> dict[str, Any]:
    """Returns the entry of manifest.json about a file."""
    size, classes = to_export.model.input_shape[1], to_export.model.output_shape[-1]
    variant, result = file.variant, file.verification
    batch = to_export.tflite_batch if variant.is_tflite else None
    dtype = "uint8" if variant.has_uint8_ports else "float32"
    pairs = result.confusion
    return {
        "format": "onnx" if variant.format == "onnx_nchw" else variant.format,
        "quantize": variant.quantize,
        "bytes": file.bytes,
        "transfer": file.transfer,
        "sha256": files.sha256_below(folder / variant.file_name),
        "version": _version(variant),
        "input": {
            "name": "image",
            "dtype": dtype,
            "shape": [batch, size, size, 3] if variant.layout == "NHWC" else [batch, 3, size, size],
            "layout": variant.layout,
            "range": [0, 255],
            "colour_order": "RGB",
        },
        "output": {
            "name": "probabilities",
            "dtype": dtype,
            "shape": [batch, classes],
            "scale": 1 / 256 if dtype == "uint8" else 1.0,
            "zero_point": 0,
        },
        **_map_entry(file, grid, [batch, classes]),
        "proof": {
            **scored,
            **_accuracy(result.score),
            "changed_answers": {
                "records": sum(count for _, _, count in pairs),
                "pairs": len(pairs),
                "most_frequent": [list(pair) for pair in pairs[: report.PAIRS]],
            },
            "largest_difference": result.largest_difference,
            "top1_agreement": result.agreement,
            "drop": result.drop,
            "drop_interval_95": result.drop_interval,
            **_map_proof(result.class_map),
        },
    }


def _map_entry(file: ExportedFile, grid: Grid | None, of_probabilities: list[int | None]) -> dict[str, Any]:
    """Returns the part of a file's entry about its class map."""
    if grid is None:
        return {}
    batch, classes = of_probabilities
    return {
        class_map.NAME: {
            "name": class_map.NAME,
            "dtype": "float32",
            "shape": [batch, grid.side, grid.side, classes],
            **grid.to_dict(),
            "description": class_map.DESCRIPTION,
            "logit_range": file.verification.class_map and file.verification.class_map.logit_range,
            "bytes": file.map_bytes,
        }
    }


def _map_proof(result: verify.MapVerification | None) -> dict[str, Any]:
    if result is None:
        return {}
    return {class_map.NAME: {name: getattr(result, name) for name in MAP_PROOF}}


def _accuracy(score: metrics.Score) -> dict[str, Any]:
    macro = score.by_class.macro()
    return {
        "n": score.n,
        "top1": score.top1,
        "top1_interval_95": score.top1_interval,
        "top5": score.top5,
        "top5_interval_95": score.top5_interval,
        "ece": score.ece,
        "nll": score.nll,
        "brier": score.brier,
        "balanced_accuracy": macro["balanced_accuracy"],
        "macro_f1": macro["macro_f1"],
    }


def _version(variant: Variant) -> str:
    if variant.format == "savedmodel":
        return "TensorFlow SavedModel 1"
    return "TFLite schema 3" if variant.is_tflite else f"ONNX opset {onnx.OPSET}, IR {onnx.IR_VERSION}"


def _write_descriptions(
    folder: Path, source: Path, manifest: dict[str, Any], against: verify.Reference, budget: int
) -> None:
    """Writes labels, programs, manifest, README, licence, model card and report."""
    names = labels.readable(tuple(manifest["classes"]))
    files.write_text(folder / check.LABELS, "".join(f"{name}\n" for name in names))
    manifest["labels"] = {"file": check.LABELS, "sha256": files.sha256_of(folder / check.LABELS)}
    vectors = json.loads((folder / golden.FOLDER / golden.VECTORS).read_text())
    manifest["programs"] = programs.write(folder, manifest, vectors)
    files.write_json(folder / check.MANIFEST, manifest)
    reference = {
        "data": remote.published(against.data),
        "split": against.split,
        **_accuracy(against.score),
        "reliability": against.score.reliability,
        **against.coverage.to_dict(),
    }
    card.write(folder, manifest, names, reference)
    readme.write(folder, manifest, names)
    # The curve is only used for a run: another .keras file may lie beside the curve of another model.
    picture = (source if source.is_dir() else source.parent) / "curve.png"
    curve = picture if (source.is_dir() or source.name == run_folder.BEST) and picture.is_file() else None
    report.write(folder, manifest, names, budget, reference, against.score.confusion, curve)


def table(
    exported: list[ExportedFile], against: verify.Reference, budget: int
) -> tuple[list[str], list[list[str]], str]:
    """Returns the columns, the rows and the title of a table: size, accuracy and loss of each file."""
    score = against.score
    # The top-5 of five classes is always 100 %.
    measures = ["top1", "top5"] if score.confusion.shape[0] > 5 else ["top1"]
    rows = []
    for each in exported:
        result, (low, high) = each.verification, each.verification.drop_interval
        rows.append(
            [
                each.variant.file_name,
                f"{each.bytes:,}",
                f"{each.bytes / 1000**2:.3f}",
                f"{each.bytes / 1024**2:.3f}",
                f"{each.transfer['brotli']:,}",
                f"{result.largest_difference:.1e}",
                *(console.percent(getattr(result.score, measure)) for measure in measures),
                console.percent(result.agreement),
                f"{100 * result.drop:.2f}",
                f"{100 * low:.2f} to {100 * high:.2f}",
            ]
        )
    of_model = [console.percent(getattr(score, measure)) for measure in measures]
    rows.append(["Keras model", *"-----", *of_model, *"---"])
    names = [measure.replace("top", "top-") for measure in measures]
    where = f"{score.n:,} records of {against.data}, {against.split}, {against.coverage}"
    columns = ["file", "bytes", "MB", "MiB", "brotli", "largest diff.", *names, "agreement", "drop", "95 %, points"]
    return columns, rows, f"{where}; budget {sizes.describe(budget)}"
