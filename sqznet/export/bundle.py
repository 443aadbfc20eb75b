"""The folder that leaves the house: every asked-for file, proved, with all that goes with it, or no folder at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core import console, files, metrics, remote, sizes, startup
from sqznet.core.errors import CheckFailed, InputError
from sqznet.export import audit, card, check, constants, golden, onnx, previous, report, transfer, verify
from sqznet.export.variants import Source, Variant
from sqznet.network import coverage, fold, labels, metadata
from sqznet.predict import inference, latency
from sqznet.runs import run_folder

if TYPE_CHECKING:
    import keras
    import numpy as np

    from sqznet.data.manifest import Manifest
    from sqznet.network.keras_file import Card

MANIFEST = check.MANIFEST
LABELS = check.LABELS
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
    replace: bool = False,
) -> tuple[list[Exported], verify.Reference]:
    """Writes a bundle, proves it, and puts it in place by one rename.

    Args:
        source: where `trained` and its card come from, for messages.
        manifest: the records to compare on, and, in its train split, to calibrate int8 on.
        out: the bundle's folder. Other files of a bundle that is there are kept, if they are of this model.
        sparse: whether int8 kernels have coarse steps, many of them zero, so that a file packs well.
        drawings: whether golden/ and the report have drawings instead of records of the split.
        tflite_batch: images at a time in TFLite files; None means any number.
        latency_runs: timed runs of each file; 0 leaves latencies out.
        replace: whether a bundle that is there goes as a whole.

    Raises:
        InputError: a file fails a gate, or `out` holds what this export may not replace. What was there before is there
            as it was; of this export nothing is left.
    """
    classes = card_of_model.classes
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
    older = previous.find(out)
    with previous.said_on_failure(lambda: str(older)), files.replacing(out.resolve()) as folder:
        folder.mkdir()  # before any work: it may be that nothing can be written there
        folded = fold.inference_model(trained, card_of_model.preprocessing.image_size)
        photographs, calibrated_on = _calibration(variants, manifest, card_of_model, gate.split, calibration_records)
        writers = Source(folded, photographs, tflite_batch, sparse)
        content = _beginning(card_of_model, folded, calibrated_on)
        where = _records(manifest, gate)
        names = {each.file_name for each in variants}
        wanted = {**content, "proof": where}
        kept = {} if replace else older.kept(names, wanted, gate.budget, gate.max_drop)
        exported, against = _written(variants, writers, source, trained, card_of_model, manifest, gate, folder)
        gone = older.copy(kept, folder)
        inputs = (
            golden.drawn(card_of_model.preprocessing)
            if drawings
            else golden.of_records(against, manifest, card_of_model.preprocessing)
        )
        quantize = {name: entry["quantize"] for name, entry in kept.items()}
        quantize |= {each.file_name: each.quantize for each in variants}
        with console.doing("writing the golden vectors"):
            golden.write(folder, inputs, {name: folder / name for name in quantize}, quantize)
        entries = dict(_entries(folder, exported, against, writers, where))
        _time(folder, entries, latency_runs)
        if any(entry["quantize"] == "int8" for entry in kept.values()) and older.manifest:
            content["calibration"] = older.manifest["calibration"]
        content |= {"files": {**kept, **entries}, "gate": _gate(gate, against, manifest)}
        _describe(folder, source, content, against, gate.budget)
        check.check(folder)
        previous.find(out)  # something may have been put there meanwhile
        told = older.outcome(kept, names, gone)
    if told:
        console.say(told)
    covered = coverage.read(content["calibration"]) if content["calibration"] else None
    for warning in (content["gate"]["warning"], coverage.warning(against.coverage, covered)):
        if warning:
            console.say(f"warning: {warning}")
    return exported, against


def _records(manifest: Manifest, gate: Gate) -> dict[str, Any]:
    """Which records files are compared on, wherever they lie."""
    total = manifest.records(gate.split)
    digest = hashlib.sha256("".join(shard.sha256 for shard in manifest.shards_of(gate.split)).encode())
    return {
        "data": remote.published(manifest.folder),
        "split": gate.split,
        "n": min(gate.records or total, total),
        "records_sha256": digest.hexdigest(),
    }


def _gate(gate: Gate, against: verify.Reference, manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of the loss that was allowed, and of the smallest one that the records can show."""
    n = against.score.n
    return {
        "max_drop": gate.max_drop,
        "budget": gate.budget,
        "smallest_drop": 1 / n,
        "warning": metrics.too_few_records(n, manifest.records(gate.split), gate.max_drop),
    }


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
    return photographs, {
        "data": remote.published(manifest.folder),
        "split": split,
        "records": records,
        **covered.to_dict(),
    }


def _written(
    variants: list[Variant],
    writers: Source,
    source: Path,
    trained: keras.Model,
    card_of_model: Card,
    manifest: Manifest,
    gate: Gate,
    folder: Path,
) -> tuple[list[Exported], verify.Reference]:
    """Writes all files, then sends them through the gates, those that cost nothing first."""
    with console.progress("files/s") as bar:
        for variant in bar.track(variants, description="writing the files"):
            _one(variant, writers, card_of_model, source.name, gate, folder)
    against, proofs = verify.prove(
        inference.of_keras(source, trained, card_of_model),
        {folder / each.file_name: each.quantize for each in variants},
        manifest,
        gate.split,
        gate.records,
        gate.max_drop,
    )
    exported = []
    with console.doing("packing the files as a store does"):
        for each in variants:
            path = folder / each.file_name
            exported.append(Exported(each, files.size_of(path), transfer.sizes(path), proofs[each.file_name]))
    return exported, against


def _one(variant: Variant, writers: Source, card_of_model: Card, name: str, gate: Gate, folder: Path) -> None:
    """Writes one file, and looks at its size, its operators and whether it comes out the same again."""
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


def _write(variant: Variant, writers: Source, card_of_model: Card, name: str, path: Path) -> None:
    with startup.quiet():
        variant.write(writers, path)
    metadata.add_card(path, variant.format, card_of_model, name)


def _over_budget(variant: Variant, size: int, budget: int) -> str:
    advice = "--arch=v1.1 trains a slightly smaller network"
    if variant.quantize in ("none", "float16") and variant.format != "savedmodel":
        advice = "--quantize=float16 halves the file, int8 quarters it"
    return (
        f"{variant.file_name} is {sizes.describe(size)}, over the budget of {sizes.describe(budget)}. "
        f"Raise --budget, or: {advice}"
    )


def _sha256_of_weights(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for variable in model.variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def _beginning(card_of_model: Card, folded: keras.Model, calibrated_on: dict[str, Any] | None) -> dict[str, Any]:
    """What manifest.json says of the model, in the types that JSON gives back."""
    content = {
        **metadata.describe(card_of_model),
        "model_sha256": _sha256_of_weights(folded),
        "converters": {name: packages.version(name) for name in ("tensorflow", "tf2onnx", "onnx", "onnxruntime")},
        "calibration": calibrated_on,
    }
    return json.loads(json.dumps(content))


def _time(folder: Path, entries: dict[str, dict[str, Any]], runs: int) -> None:
    """Adds the latency of each file to what manifest.json says of it."""
    if runs:
        with console.progress("files/s") as bar:
            for name in bar.track(entries, description="timing"):
                entries[name]["latency"] = latency.measure(folder / name, runs=runs)


def _describe(folder: Path, source: Path, manifest: dict[str, Any], against: verify.Reference, budget: int) -> None:
    """Writes labels, manifest, card, report and the constants for phones."""
    names = labels.readable(tuple(manifest["classes"]))
    files.write_text(folder / LABELS, "".join(f"{name}\n" for name in names))
    manifest["labels"] = {"file": LABELS, "sha256": files.sha256_of(folder / LABELS)}
    files.write_json(folder / MANIFEST, manifest)
    reference = {
        "data": remote.published(against.data),
        "split": against.split,
        **_accuracy(against.score),
        **against.coverage.to_dict(),
    }
    card.write(folder, manifest, names, reference)
    report.write(folder, manifest, names, budget, reference, against.score.confusion, _curve(source))
    vectors = json.loads((folder / golden.FOLDER / "golden.json").read_text())
    files.write_text(folder / "kotlin" / "ModelContract.kt", constants.kotlin(manifest, vectors))
    files.write_text(folder / "swift" / "ModelContract.swift", constants.swift(manifest, vectors))


def _curve(source: Path) -> Path | None:
    """The picture of the training that made the model, where it is still beside it."""
    picture = (source if source.is_dir() else source.parent) / "curve.png"
    return picture if (source.is_dir() or source.name == run_folder.BEST) and picture.is_file() else None


def _accuracy(score: metrics.Score) -> dict[str, Any]:
    return {
        "n": score.n,
        "top1": score.top1,
        "top1_interval_95": score.top1_interval,
        "top5": score.top5,
        "top5_interval_95": score.top5_interval,
    }


def _entries(
    folder: Path, exported: list[Exported], against: verify.Reference, writers: Source, where: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What manifest.json says of each file."""
    size, classes = writers.model.input_shape[1], writers.model.output_shape[-1]
    for each in exported:
        variant, proof = each.variant, each.proof
        batch = writers.tflite_batch if variant.is_tflite else None
        dtype = "uint8" if variant.has_uint8_ports else "float32"
        yield (
            variant.file_name,
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
                    **where,
                    **_accuracy(proof.score),
                    **against.coverage.to_dict(),
                    "changed_answers": _changed(proof.confusion),
                    "largest_difference": proof.largest_difference,
                    "top1_agreement": proof.agreement,
                    "drop": proof.drop,
                    "drop_interval_95": proof.drop_interval,
                },
            },
        )


def _changed(pairs: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Where a file's likeliest class is not the Keras model's: [its class, the file's, records], most records first."""
    records = sum(count for _, _, count in pairs)
    return {"records": records, "pairs": len(pairs), "most_frequent": [list(pair) for pair in pairs[: report.PAIRS]]}


def _version(variant: Variant) -> str:
    if variant.format == "savedmodel":
        return "TensorFlow SavedModel 1"
    return "TFLite schema 3" if variant.is_tflite else f"ONNX opset {onnx.OPSET}, IR {onnx.IR_VERSION}"


def print_table(exported: list[Exported], against: verify.Reference, budget: int) -> None:
    """The table that ends an export."""
    score = against.score
    measures = {"top-1": lambda of: console.percent(of.top1), "top-5": lambda of: console.percent(of.top5)}
    if score.confusion.shape[0] <= 5:
        del measures["top-5"]  # it is 100 % whatever a model says
    rows = [
        [
            each.variant.file_name,
            f"{each.bytes:,}",
            f"{each.bytes / 1000**2:.3f}",
            f"{each.bytes / 1024**2:.3f}",
            f"{each.transfer['brotli']:,}",
            f"{each.proof.largest_difference:.1e}",
            *(measure(each.proof.score) for measure in measures.values()),
            console.percent(each.proof.agreement),
            f"{100 * each.proof.drop:.2f}",
            f"{100 * each.proof.drop_interval[0]:.2f} to {100 * each.proof.drop_interval[1]:.2f}",
        ]
        for each in exported
    ]
    rows.append(["Keras model", *"-----", *(measure(score) for measure in measures.values()), *"---"])
    where = f"{score.n:,} records of {against.data}, {against.split}, {against.coverage}"
    console.table(
        ["file", "bytes", "MB", "MiB", "brotli", "largest diff.", *measures, "agreement", "drop", "95 %, points"],
        rows,
        title=f"{where}; budget {sizes.describe(budget)}",
    )
