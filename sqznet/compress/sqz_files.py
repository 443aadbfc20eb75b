"""Writes a compressed .sqz file with its curve, and decodes .sqz files to the formats of other runtimes."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from sqznet.compress import curve
from sqznet.compress.compressor import CompressionSettings, Compressor
from sqznet.core import console, files, locks, metrics, remote, startup
from sqznet.core.errors import CheckFailed, InputError
from sqznet.data import manifest as manifests
from sqznet.export import onnx, previous, tflite
from sqznet.network import coverage, fold, keras_file, metadata
from sqznet.network.sqz import convert, decoder
from sqznet.predict import inference
from sqznet.runs import run_folder

FOLDER = Path("export/compressed")


def compress(source: Path, data: Path | None, out: Path | None, settings: CompressionSettings) -> None:
    """Compresses a network to a .sqz file, and prints and writes the curve of all sizes that were tried.

    Args:
        source: run folder, .keras file or published weights.
        data: shards. None means the shards that the network was trained on.
        out: path of the file. None means a file in FOLDER with the name of the source.

    Raises:
        CheckFailed: no file is within the limits.
    """
    trained, card = inference.load_keras(source)
    manifest = manifests.load(data or run_folder.trained_on(card, source))
    out = out or FOLDER / f"{source.stem if source.is_file() else source.name}.sqz"
    target, max_drop = settings.target, settings.max_drop
    remedy = "wait for it, or name another --out"
    with locks.locked(locks.beside(out), f"compresses to {out}", wait=False, remedy=remedy):
        with previous.state_on_failure(lambda: _unchanged(out)):
            older = _description(out) if out.is_file() else None
            compressor = Compressor(source, trained, card, manifest, settings)
            split, reference = compressor.split, compressor.reference
            too_few = metrics.too_few_records(reference.score.n, manifest.records(split), settings.max_loss)
            if too_few:
                console.say(f"warning: {too_few}")
            tried, chosen = compressor.compress()
            measured = reference.coverage
            curve.print_table(tried, chosen, reference.score.top1, measured)
            for warning in (too_few, coverage.warning(measured, compressor.calibrated)):
                if warning:
                    console.result(f"warning: {warning}")
            if chosen is None:
                smallest = min(tried, key=lambda each: each.bytes)
                raise CheckFailed(
                    f"no file is within {'' if target is None else f'--target={target} '}"
                    f"{'' if max_drop is None else f'--max_drop={max_drop:g} '}on {smallest.n:,} records of {split}: "
                    f"the smallest one has {smallest.bytes:,} bytes and loses {100 * smallest.drop:.2f} points"
                )
            files.write_bytes(out, chosen.data)
        title = f"{source.name} on {split} of {remote.published(manifest.folder)}, n = {chosen.n:,}, {measured}"
        curve.write(tried, chosen, reference.score.top1, out, title, measured, compressor.calibrated)
        console.result(f"{out}: {chosen.bytes:,} bytes; curve: {curve.path_of(out, '.png')}")
        if older:
            console.result(f"replaced: {older}")
        console.next_step("sqznet.evaluate", f"--model={out}", f"--data={manifest.folder}", f"--against={source}")


def _description(path: Path) -> str:
    """Describes an existing .sqz file for messages: size, date and network."""
    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    try:
        found = decoder.decode(path.read_bytes())
        network = f"{found.arch}, {found.activation}, {found.classes:,} classes"
    except (OSError, ValueError):
        network = "not a .sqz file that can be decoded"
    return f"{files.size_of(path):,} bytes of {written} ({network})"


def _unchanged(out: Path) -> str:
    """Describes the state of `out` after a failed compression, for the error message."""
    if not out.is_file():
        return f"nothing was written, and {out} does not exist"
    return f"nothing was written; {out}, {_description(out)}, is unchanged"


def decode(path: Path, format_name: str, out: Path | None) -> None:
    """Decodes a .sqz file to keras, tflite or onnx with the same weights, bit for bit.

    Args:
        out: path of the result. None means a file beside the .sqz file.

    Raises:
        InputError: the file is damaged, or lacks the class names that the format needs. Or `out` is None and the result
            exists already.
    """
    model, card = convert.load(path)
    if out is None:
        out = path.with_suffix(f".{format_name}")
        if out.exists():
            raise InputError(
                f"{out} exists, and may be the network that {path.name} was compressed from; nothing was written. Name "
                f"the file to write: --out=NAME.{format_name}"
            )
    if format_name == "keras":
        if card.classes is None:
            raise InputError(f"{path} has no class names, which a .keras file of sqznet needs; take another format")
        keras_file.save(model, card, out)
    else:
        folded = fold.inference_model(model, card.preprocessing.image_size)
        with files.replacing(out) as temporary, startup.quiet():
            if format_name == "tflite":
                tflite.write(folded, temporary, "none")
            else:
                onnx.write(folded, temporary, "none", "NHWC")
            # A card needs class names. Without class names, the numbers of the outputs are the names.
            numbers = tuple(map(str, range(model.output_shape[-1])))
            named = card if card.classes else dataclasses.replace(card, classes=numbers)
            metadata.add_card(temporary, format_name, named, path.stem)
    console.result(f"{out}: {files.size_of(out):,} bytes, from {files.size_of(path):,}")
