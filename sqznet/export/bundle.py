"""The folder that leaves the house: every asked-for file, proved, with all that goes with it, or no folder at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import console, coverage, files, inference, labels, latency, metrics
from sqznet.errors import CheckFailed, InputError
from sqznet.export import audit, card, check, contract, fold, golden, metadata, onnx, report, transfer, verify
from sqznet.export import budget as sizes
from sqznet.export.variants import VARIANTS, Source, Variant

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sqznet.data.manifest import Manifest
    from sqznet.keras_file import Card

MANIFEST = check.MANIFEST
LABELS = check.LABELS
OTHERS = ("report.html", "MODEL_CARD.md", LABELS, MANIFEST, golden.FOLDER, "kotlin", "swift")  # beside model files
REPORTS = ("evaluation-", "confusion-")  # what `evaluate` leaves beside a model
CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Gate:
    """What a file has to hold to."""

    budget: int  # most bytes of a file, or of a SavedModel folder
    max_drop: float = 0.01  # most top-1 accuracy lost against the Keras model, as a share
    split: str = "test"  # of the records to compare on
    records: int | None = None  # of them; None: all


@dataclass(frozen=True)
class Exported:
    variant: Variant
    bytes: int
    transfer: dict[str, int]  # bytes under each packer of transfer.PACKERS
    proof: verify.Proof


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
    drawings: bool = False,
    tflite_batch: int | None = 1,
    latency_runs: int = 30,
) -> tuple[list[Exported], verify.Reference]:
    """Writes a bundle, proves it, and puts it in place by one rename.

    Args:
        source: where `trained` and its card come from, for messages.
        manifest: the records to compare on, and, in its train split, to calibrate int8 on.
        out: the bundle's folder. An older bundle there is removed first: it must not be taken for this one.
        sparse: whether int8 kernels have coarse steps, many of them zero, so that a file packs well.
        drawings: whether golden/ and the report have drawings instead of records of the split.
        tflite_batch: images at a time in TFLite files; None means any number.
        latency_runs: timed runs of each file; 0 leaves latencies out.

    Raises:
        InputError: a file fails a gate, or `out` holds what no export wrote; nothing of this export is left.
    """
    classes = card_of_model.classes
    assert classes is not None
    if len(classes) < 2:
        raise InputError(
            f"{source} has one class: its answer is always {classes[0]!r}, with probability 1, for any image"
        )
    out = out.resolve()
    if out == Path.cwd() or any(parent.is_file() for parent in out.parents):
        raise InputError(f"--out={out} cannot become a bundle's folder: name one that does not exist yet")
    _refuse_strangers(out)
    files.remove_abandoned(out)
    with files.replacing(out) as folder:
        folder.mkdir()  # before any work: it may be that nothing can be written there
        folded = fold.inference_model(trained, card_of_model.preprocessing.image_size)
        total = manifest.records(gate.split)
        count = min(gate.records or total, total)
        console.say(f"running the Keras model on {count:,} of {total:,} records of {gate.split}")
        against = verify.reference(
            inference.of_keras(source, trained, card_of_model), manifest, gate.split, gate.records
        )
        photographs, calibrated_on = _calibration(variants, manifest, card_of_model, gate.split, calibration_records)
        _refuse_strangers(out)  # who may have come meanwhile
        files.remove(out)
        writers = Source(folded, photographs, tflite_batch, sparse)
        exported = [_one(variant, writers, card_of_model, source.name, against, gate, folder) for variant in variants]
        paths = {each.file_name: folder / each.file_name for each in variants}
        inputs = golden.drawn(card_of_model.preprocessing) if drawings else golden.of_records(against, manifest)
        golden.write(folder, inputs, paths, {each.file_name: each.quantize for each in variants})
        _describe(folder, card_of_model, exported, against, writers, calibrated_on, latency_runs, gate.budget)
        check.check(folder)
    warning = coverage.warning(against.coverage, coverage.read(calibrated_on) if calibrated_on else None)
    if warning:
        console.say(f"warning: {warning}")
    return exported, against


def _refuse_strangers(out: Path) -> None:
    """What is at `out` is replaced as a whole, so it must be a bundle and nothing else.

    Raises:
        InputError: something there was not written by an export.
    """
    if not out.exists() and not out.is_symlink():
        return
    strangers = [out]
    if out.is_dir():
        below = [path for path in sorted(out.rglob("*")) if not path.is_dir()]
        try:
            known = set(check.load(out)["files"]) & {each.file_name for each in VARIANTS}
        except InputError:
            known = set()
            strangers = below  # of a folder that is no bundle, everything
        else:
            strangers = [path for path in below if not _is_ours(path.relative_to(out), known)]
    if strangers:
        names = ", ".join(path.name if path == out else str(path.relative_to(out)) for path in strangers[:5])
        raise InputError(
            f"{out} would be replaced as a whole, and it holds what no export wrote: {names}. Move that away, or give "
            "another folder with --out"
        )


def _is_ours(path: Path, models: set[str]) -> bool:
    """Whether a file of this path in a bundle with these model files is an export's, or `evaluate`'s report on one."""
    folder = path.parts[0]
    if folder == golden.FOLDER:
        return path.suffix in (".json", ".bin", ".png", ".jpg")
    if folder in ("kotlin", "swift"):
        return path.stem == "ModelContract"
    return folder in models or folder in OTHERS or folder.startswith((*REPORTS, files.TEMPORARY_PREFIX))


def _calibration(
    variants: list[Variant], manifest: Manifest, card_of_model: Card, proof_split: str, records: int
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """Photographs to find int8's steps on, and what the manifest says of them; none where no file is int8."""
    from sqznet.data import pipeline

    if not any(each.quantize == "int8" for each in variants):
        return [], None
    split = "train" if "train" in manifest.splits else proof_split
    batches = pipeline.examples(manifest, split, card_of_model.preprocessing, records, CALIBRATION_BATCH)
    photographs, shown = [], []
    for images, some_labels in batches:
        photographs.append(images)
        shown.append(some_labels)
    if not photographs:
        raise InputError(f"{manifest.folder} has no records in {split} to calibrate int8 on")
    if split == proof_split:
        console.say(f"int8 is calibrated on {split}, on which it is proved as well: the set has no other split")
    assert card_of_model.classes is not None
    covered = coverage.count(shown, len(manifest.classes), len(card_of_model.classes))
    records = sum(map(len, photographs))
    console.say(f"int8 is calibrated on {records:,} records of {split}, which show {covered}")
    return photographs, {"data": str(manifest.folder), "split": split, "records": records, **covered.to_dict()}


def _one(
    variant: Variant,
    writers: Source,
    card_of_model: Card,
    name: str,
    against: verify.Reference,
    gate: Gate,
    folder: Path,
) -> Exported:
    """Writes one file and sends it through every gate."""
    path = folder / variant.file_name
    _write(variant, writers, card_of_model, name, path)
    size = files.size_of(path)
    if size > gate.budget:
        raise CheckFailed(_over_budget(variant, size, gate.budget))
    audit.check(path, variant.quantize)
    if path.is_file():
        again = folder / f"{files.TEMPORARY_PREFIX}again{path.suffix}"
        _write(variant, writers, card_of_model, name, again)
        if path.read_bytes() != again.read_bytes():
            raise CheckFailed(
                f"{path.name} comes out with other bytes each time; please report this with the run folder"
            )
        files.remove(again)
    return Exported(variant, size, transfer.sizes(path), verify.prove(path, variant.quantize, against, gate.max_drop))


def _write(variant: Variant, writers: Source, card_of_model: Card, name: str, path: Path) -> None:
    variant.write(writers, path)
    metadata.add_card(path, variant.format, card_of_model, name)


def _over_budget(variant: Variant, size: int, budget: int) -> str:
    advice = "--arch=v1.1 trains a slightly smaller network"
    if variant.quantize in ("none", "float16") and variant.format != "savedmodel":
        advice = "--quantize=float16 halves the file, int8 quarters it"
    return (
        f"{variant.file_name} is {sizes.describe(size)}, over the budget of {sizes.describe(budget)}; nothing was "
        f"written. Raise --budget, or: {advice}"
    )


def _sha256_of_weights(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _describe(
    folder: Path,
    card_of_model: Card,
    exported: list[Exported],
    against: verify.Reference,
    writers: Source,
    calibrated_on: dict[str, Any] | None,
    latency_runs: int,
    budget: int,
) -> None:
    """Writes labels, manifest, card, report and the constants for phones."""
    names = labels.readable(card_of_model.classes or ())
    files.write_text(folder / LABELS, "".join(f"{name}\n" for name in names))
    entries = {each.variant.file_name: entry for each, entry in _entries(folder, exported, against, writers)}
    if latency_runs:
        with console.progress("files/s") as bar:
            for name in bar.track(entries, description="timing"):
                entries[name]["latency"] = latency.measure(folder / name, runs=latency_runs)
    manifest = {
        **metadata.describe(card_of_model),
        "model_sha256": _sha256_of_weights(writers.model),
        "labels": {"file": LABELS, "sha256": files.sha256_of(folder / LABELS)},
        "converters": {name: packages.version(name) for name in ("tensorflow", "tf2onnx", "onnx", "onnxruntime")},
        "calibration": calibrated_on,
        "files": entries,
    }
    files.write_json(folder / MANIFEST, manifest)
    reference = {
        "data": str(against.data),
        "split": against.split,
        **_accuracy(against.score),
        **against.coverage.to_dict(),
    }
    confusions = {each.variant.file_name: each.proof.confusion for each in exported}
    card.write(folder, manifest, names, reference)
    report.write(folder, manifest, names, confusions, budget, reference)
    vectors = json.loads((folder / golden.FOLDER / "golden.json").read_text())
    files.write_text(folder / "kotlin" / "ModelContract.kt", contract.kotlin(manifest, vectors))
    files.write_text(folder / "swift" / "ModelContract.swift", contract.swift(manifest, vectors))


def _accuracy(score: metrics.Score) -> dict[str, Any]:
    return {
        "n": score.n,
        "top1": score.top1,
        "top1_interval_95": score.top1_interval,
        "top5": score.top5,
        "top5_interval_95": score.top5_interval,
    }


def _entries(
    folder: Path, exported: list[Exported], against: verify.Reference, writers: Source
) -> Iterator[tuple[Exported, dict[str, Any]]]:
    """What manifest.json says of each file."""
    size, classes = writers.model.input_shape[1], writers.model.output_shape[-1]
    for each in exported:
        variant, proof = each.variant, each.proof
        batch = writers.tflite_batch if variant.is_tflite else None
        dtype = "uint8" if variant.has_uint8_ports else "float32"
        yield (
            each,
            {
                "format": "onnx" if variant.format == "onnx_nchw" else variant.format,
                "quantize": variant.quantize,
                "bytes": each.bytes,
                "transfer": each.transfer,
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
                "proof": {
                    "data": str(against.data),
                    "split": against.split,
                    **_accuracy(proof.score),
                    **against.coverage.to_dict(),
                    "largest_difference": proof.largest_difference,
                    "top1_agreement": proof.agreement,
                    "drop": proof.drop,
                    "drop_interval_95": proof.drop_interval,
                },
            },
        )


def _version(variant: Variant) -> str:
    if variant.format == "savedmodel":
        return "TensorFlow SavedModel 1"
    return "TFLite schema 3" if variant.is_tflite else f"ONNX opset {onnx.OPSET}, IR {onnx.IR_VERSION}"


def print_table(exported: list[Exported], against: verify.Reference, budget: int) -> None:
    """The table that ends an export."""
    rows = [
        [
            each.variant.file_name,
            f"{each.bytes:,}",
            f"{each.bytes / 1000**2:.3f}",
            f"{each.bytes / 1024**2:.3f}",
            f"{each.transfer['brotli']:,}",
            f"{each.proof.largest_difference:.1e}",
            console.percent(each.proof.score.top1),
            console.percent(each.proof.score.top5),
            console.percent(each.proof.agreement),
            f"{100 * each.proof.drop:.2f}",
            f"{100 * each.proof.drop_interval[0]:.2f} to {100 * each.proof.drop_interval[1]:.2f}",
        ]
        for each in exported
    ]
    score = against.score
    rows.append(["Keras model", *"-----", console.percent(score.top1), console.percent(score.top5), *"---"])
    where = f"{len(against.labels)} records of {against.data}, {against.split}, {against.coverage}"
    console.table(
        [
            "file",
            "bytes",
            "MB",
            "MiB",
            "brotli",
            "largest diff.",
            "top-1",
            "top-5",
            "agreement",
            "drop",
            "95 %, points",
        ],
        rows,
        title=f"{where}; budget {sizes.describe(budget)}",
    )
