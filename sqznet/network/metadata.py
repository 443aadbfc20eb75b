"""Writes and reads the card inside an exported file, and the descriptions of the file's format.

Every file contains its card as JSON under the name `sqznet.json`: classes, input contract, origin. A SavedModel has it
in its folder. An .onnx file has it as a metadata property, and its labels as another one. A .tflite file has both in an
archive.

A .tflite file also describes its input, output and labels in the published schema of TFLite metadata, which MediaPipe
Tasks and Android's code generators read. These metadata are a flatbuffer in one more buffer of the model; labels.txt
and sqznet.json follow the model as an uncompressed ZIP archive, which readers of flatbuffers ignore.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import files, remote
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import DECODING
from sqznet.network import class_map, labels, tflite_metadata
from sqznet.network.class_map import Grid
from sqznet.network.keras_file import MEMBER, Card

LABELS = "labels.txt"
ENTRY = b"TFLITE_METADATA"  # the name that readers look for

NO_LICENCE = "see MODEL_CARD.md"  # which every bundle has


def describe(card: Card) -> dict[str, Any]:
    """Returns a card as written in manifest.json, with the whole input contract."""
    preprocessing = card.preprocessing
    contract = {**DECODING, "colour_order": "RGB", "range": [0, 255]}
    contract |= {"steps": preprocessing.steps, "rule": preprocessing.rule}
    data = None if card.data is None else remote.published(card.data)  # an earlier version may have written it
    return {**card.to_dict(), "data": data, "preprocessing": {**preprocessing.to_dict(), **contract}}


def card_text(card: Card, grid: Grid | None = None) -> str:
    """Returns the text of sqznet.json.

    It omits the folder of the training data, which exists on one machine only, and the table of thresholds, which is in
    the manifest.

    Args:
        grid: the grid of the file's class map, or None if the file has none.
    """
    content = {key: value for key, value in describe(card).items() if key not in ("data", "answered")}
    if grid is not None:
        content[class_map.NAME] = {**grid.to_dict(), "description": class_map.DESCRIPTION}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def add_card(path: Path, format_name: str, card: Card, name: str, grid: Grid | None = None) -> None:
    """Adds the card to a finished file. A .tflite file gets labels and metadata as well. The network stays the same.

    Args:
        path: a file, or the folder of a SavedModel.
        format_name: one of `variants.FORMATS`.
        name: name of the model, for people.
        grid: the grid of the file's class map, or None if the file has none.

    Raises:
        InputError: the file is not a TFLite file, or contains metadata already, or the labels do not fit its outputs.
    """
    if format_name == "savedmodel":
        files.write_text(path / MEMBER, card_text(card, grid))
    elif format_name == "tflite":
        _add_to_tflite(path, card, name, grid)
    else:
        import onnx

        model = onnx.load(path)
        model.metadata_props.add(key=MEMBER, value=card_text(card, grid))
        model.metadata_props.add(key=LABELS, value=_lines(labels.readable(card.classes or ())))
        path.write_bytes(model.SerializeToString(deterministic=True))


def _add_to_tflite(path: Path, card: Card, name: str, grid: Grid | None) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = _model(path)
    (graph,) = model.subgraphs
    probabilities = graph.tensors[graph.outputs[0]]
    names = labels.readable(card.classes or ())
    if len(names) != probabilities.shape[-1]:
        raise InputError(f"{path} has {probabilities.shape[-1]} outputs, and there are {len(names)} labels for them")
    broken = next((each for each in names if set(each) & {"\r", "\n"}), None)
    if broken is not None:
        raise InputError(f"the label {broken!r} for {path} has a line break in it; {LABELS} has one label per line")
    content = tflite_metadata.build(
        f"SqueezeNet {name}",
        f"Image classifier. {card.preprocessing.steps}.",
        str((card.weights or {}).get("licence") or NO_LICENCE),
        card.preprocessing.image_size,
        255.0 if probabilities.type == schema.TensorType.UINT8 else 1.0,
        LABELS,
        MEMBER,
        None if grid is None else (class_map.NAME, class_map.DESCRIPTION),
    )
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = ENTRY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = tflite_metadata.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    members = {LABELS: _lines(names), MEMBER: card_text(card, grid)}
    path.write_bytes(_with_archive(bytes(builder.Output()), members))


def _lines(names: tuple[str, ...]) -> str:
    return "".join(f"{each}\n" for each in names)


def labels_of(path: Path) -> tuple[str, ...] | None:
    """Reads the labels in a .tflite file, in the order of its outputs. Returns None if it contains none.

    Raises:
        InputError: the labels cannot be read.
    """
    text = _in_archive(path, LABELS)
    return None if text is None else tuple(text.removesuffix("\n").split("\n"))


def card_in_tflite(path: Path) -> str | None:
    """Reads sqznet.json from a .tflite file. Returns None if there is none.

    Raises:
        InputError: sqznet.json cannot be read.
    """
    return _in_archive(path, MEMBER)


def card_in_onnx(path: Path) -> str | None:
    """Reads sqznet.json from an .onnx file, or returns None. (ONNX Runtime also returns it for a loaded file.)"""
    import onnx

    properties = {each.key: each.value for each in onnx.load(path, load_external_data=False).metadata_props}
    return properties.get(MEMBER)


def card_in_saved_model(folder: Path) -> str | None:
    """Reads sqznet.json from a SavedModel. Returns None if there is none."""
    return (folder / MEMBER).read_text(errors="replace") if (folder / MEMBER).is_file() else None


def _in_archive(path: Path, name: str) -> str | None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if name in archive.namelist():
                    return archive.read(name).decode()
    except Exception as error:  # zipfile raises many types on a damaged archive
        raise InputError(f"{path} is damaged: {name} in it cannot be read ({error})") from None
    # The flatbuffer names the members of its archive. This shows whether an archive was lost or never existed.
    if name.encode() in path.read_bytes():
        raise InputError(
            f"{path} is damaged or truncated: its metadata name {name}, which the end of the file should hold, but it "
            "is not there; copy the file again"
        )
    return None


def _model(path: Path) -> Any:
    """Returns the file's ModelT."""
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    try:
        if content[4:8] != b"TFL3":
            raise ValueError("its fifth to eighth bytes are not TFL3")
        model = schema.ModelT.InitFromPackedBuf(content)
        if not model.subgraphs or not model.buffers:
            raise ValueError("there is no network in it")
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise InputError(f"{path} is not a TFLite file ({error}); expected what sqznet.export writes") from None
    if any(each.name == ENTRY for each in model.metadata or []):
        raise InputError(f"{path} has metadata already; add them to a file that the converter has just written")
    return model


def _with_archive(model: bytes, contents: dict[str, str]) -> bytes:
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            # The date and system are fixed, so the same model gives the same bytes. Readers map the uncompressed file
            # into memory.
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16  # Unix
            archive.writestr(member, content.encode())
    return file.getvalue()
