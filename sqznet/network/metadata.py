"""What an exported file says of itself, so that the file alone is enough to run it.

Every file carries its card as JSON under the name `sqznet.json`: classes, input contract, origin. A SavedModel has it
as a file in its folder, an .onnx file among its metadata properties, a .tflite file beside its labels.

A .tflite file also describes its ports and labels in the published schema of TFLite metadata, which MediaPipe Tasks and
Android's code generators read. These metadata are a flatbuffer in one more buffer of the model; labels.txt and
sqznet.json follow the model's bytes as an uncompressed ZIP archive, which readers of flatbuffers do not see.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from sqznet.core import files, remote
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import DECODING
from sqznet.network import labels, tflite_metadata
from sqznet.network.keras_file import MEMBER, Card

LABELS = "labels.txt"
ENTRY = b"TFLITE_METADATA"  # the name that readers look for

NO_LICENCE = "see MODEL_CARD.md"  # which every bundle has


def describe(card: Card) -> dict[str, Any]:
    """A model's card as manifest.json states it: with the input contract spelt out."""
    preprocessing = card.preprocessing
    spelt_out = {**DECODING, "colour_order": "RGB", "range": [0, 255], "steps": preprocessing.steps}
    data = None if card.data is None else remote.published(card.data)  # of a card that an earlier version wrote
    return {**card.to_dict(), "data": data, "preprocessing": {**preprocessing.to_dict(), **spelt_out}}


def card_text(card: Card) -> str:
    """sqznet.json of a file. It leaves out where the training data lay, which is of no use on another machine."""
    content = {key: value for key, value in describe(card).items() if key != "data"}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def add_card(path: Path, format_name: str, card: Card, name: str) -> None:
    """Gives a finished file what it needs to be used by itself: its card, and the descriptions of its format.

    Args:
        path: a file, or the folder of a SavedModel.
        format_name: of `variants.FORMATS`.
        name: of the model, for people.
    """
    if format_name == "savedmodel":
        add_to_saved_model(path, card)
    elif format_name != "tflite":
        add_to_onnx(path, card)
    else:
        add(
            path,
            name=f"SqueezeNet {name}",
            description=f"Image classifier. {card.preprocessing.steps}.",
            licence=str((card.weights or {}).get("licence") or NO_LICENCE),
            labels=labels.readable(card.classes or ()),
            image_size=card.preprocessing.image_size,
            card=card,
        )


def add_to_saved_model(folder: Path, card: Card) -> None:
    files.write_text(folder / MEMBER, card_text(card))


def add_to_onnx(path: Path, card: Card) -> None:
    """Rewrites a finished .onnx file with its card; the network in it stays what it is."""
    import onnx

    model = onnx.load(path)
    model.metadata_props.add(key=MEMBER, value=card_text(card))
    path.write_bytes(model.SerializeToString(deterministic=True))


def add(
    path: Path,
    *,
    name: str,
    description: str,
    licence: str,
    labels: tuple[str, ...],
    image_size: int,
    card: Card | None = None,
) -> None:
    """Rewrites a finished .tflite file with metadata and labels; the network in it stays what it is.

    Args:
        path: a model of one input, pixels float32 or uint8 0..255, (1, image_size, image_size, 3), and one output,
            probabilities.
        labels: words for the outputs, in their order, one line each.
        card: what sqznet itself reads again; None leaves it out.

    Raises:
        InputError: it is no TFLite file, or has metadata already.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _model(path)
    (graph,) = model.subgraphs
    (index,) = graph.outputs
    probabilities = graph.tensors[index]
    if len(labels) != probabilities.shape[-1]:
        raise InputError(f"{path} has {probabilities.shape[-1]} outputs, and there are {len(labels)} labels for them")
    broken = next((label for label in labels if set(label) & {"\r", "\n"}), None)
    if broken is not None:
        raise InputError(f"the label {broken!r} for {path} has a line break in it, and labels are a line each")
    is_integer = probabilities.type == schema.TensorType.UINT8
    archive = {LABELS: "".join(f"{label}\n" for label in labels)}
    if card is not None:
        archive[MEMBER] = card_text(card)
    largest = 255.0 if is_integer else 1.0
    card_file = MEMBER if card is not None else None
    content = tflite_metadata.written(name, description, licence, image_size, largest, LABELS, card_file)
    model.buffers.append(_buffer(content))
    entry = schema.MetadataT()
    entry.name, entry.buffer = ENTRY, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    path.write_bytes(_with_archive(_packed(model, b"TFL3"), archive))


def labels_of(path: Path) -> tuple[str, ...] | None:
    """The labels in a .tflite file, in the order of its outputs; None where it has none.

    Raises:
        InputError: it has some that cannot be read.
    """
    text = _in_archive(path, LABELS)
    return None if text is None else tuple(text.removesuffix("\n").split("\n"))


def card_in_tflite(path: Path) -> str | None:
    """sqznet.json of a .tflite file; None where it has none.

    Raises:
        InputError: it has one that cannot be read.
    """
    return _in_archive(path, MEMBER)


def card_in_onnx(path: Path) -> str | None:
    """sqznet.json of an .onnx file; None where it has none. Without ONNX Runtime, which knows it of a loaded file."""
    import onnx

    properties = {each.key: each.value for each in onnx.load(path, load_external_data=False).metadata_props}
    return properties.get(MEMBER)


def card_in_saved_model(folder: Path) -> str | None:
    """sqznet.json of a SavedModel; None where it has none."""
    return (folder / MEMBER).read_text(errors="replace") if (folder / MEMBER).is_file() else None


def _in_archive(path: Path, name: str) -> str | None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if name in archive.namelist():
                    return archive.read(name).decode()
    except Exception as error:  # a damaged archive surfaces as whatever its reader stumbled over
        raise InputError(f"{path} is damaged: {name} in it cannot be read ({error})") from None
    # The flatbuffer names the files of its archive, so it tells one that was lost from one that never was.
    if name.encode() in path.read_bytes():
        raise InputError(
            f"{path} is damaged or cut short: its metadata name {name}, and the end of the file, which holds it, "
            "cannot be found; copy the file again"
        )
    return None


def _model(path: Path) -> Any:
    """The file's ModelT."""
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


def _buffer(content: bytes) -> Any:
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    return buffer


def _packed(content: Any, identifier: bytes) -> bytes:
    builder = tflite_metadata.Builder(1024)
    builder.Finish(content.Pack(builder), file_identifier=identifier)
    return bytes(builder.Output())


def _with_archive(model: bytes, contents: dict[str, str]) -> bytes:
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            # A fixed date and system: the same model is the same bytes. Uncompressed: readers map it into memory.
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16  # Unix
            archive.writestr(member, content.encode())
    return file.getvalue()
