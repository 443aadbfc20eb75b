"""What is known of an exported file: the card inside it, and the manifest.json beside it.

A file that was handed on by itself is read as in its bundle: it carries its card (`export/metadata.py`). A file without
a card, and without a manifest that lists it, is refused: nothing says which part of a photograph it wants, nor that its
outputs are probabilities.
"""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqznet.core import console, files
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import keras_file, labels, metadata
from sqznet.network.keras_file import MEMBER, Card
from sqznet.network.sqz import decoder

MANIFEST = "manifest.json"
# The file that stands for a bundle is the first in this order: what it answers decides, then what starts soonest.
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
FORMATS = ("tflite", "onnx", "savedmodel")

# What the description in the metadata of a .tflite file said before files carried a card.
_DESCRIPTION = re.compile(
    rb"Image classifier\. scale (?P<resize>the short side|both sides, whatever the shape,) to (?P<resize_to>\d+) "
    rb"pixels \((?P<interpolation>\w+), (?P<antialias>not antialiased|antialiased)\), "
    rb"cut out the central square of (?P<image_size>\d+)"
)


def kind(path: Path) -> str:
    """The suffix that a model file should have, in lower case: by its content, and by its name where that says nothing.

    Files are renamed on their way.
    """
    return by_content(path) or path.suffix.lower()


def by_content(path: Path) -> str | None:
    """The suffix that goes with the mark in a file; None without one, as folders and ONNX of other programs are."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if content[4:8] == b"TFL3":
        return ".tflite"
    if content.startswith(decoder.MAGIC[:4]):
        return ".sqz"
    if content.startswith(b"PK"):
        return ".keras" if _is_keras(path) else None
    # ONNX has no mark of its own. It begins with the number of its version, and ours names the card.
    return ".onnx" if content.startswith(b"\x08") and MEMBER.encode() in content else None


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {MEMBER, "model.weights.h5"} <= set(archive.namelist())
    except Exception:  # a damaged archive surfaces as whatever its reader stumbled over; its loader says so
        return False


class Ports(Protocol):
    """The shapes of a loaded model."""

    image_size: int
    classes: int


@dataclass(frozen=True)
class Statement:
    """A card, and where it was read."""

    card: Card
    where: str
    note: str | None = None  # what the user should know of it


def not_ours(path: Path, why: str) -> InputError:
    """The refusal of a model that another program wrote, with what can be done about it."""
    command = "python -m sqznet.weights --source={} --out=model.keras"
    if kind(path) == ".onnx":
        source = shlex.quote(str(path))
        remedy = f"A SqueezeNet of another program has to be imported, and model.keras used: {command.format(source)}"
    else:
        what = "A SavedModel" if path.is_dir() else "A TFLite file"
        remedy = (
            f"{what} cannot be imported; the weights that it was made from can, if it is a SqueezeNet (ONNX, "
            f"safetensors, caffemodel and others): {command.format('FILE')}"
        )
    return InputError(f"{path} is not a file exported by sqznet: {why}. {remedy}")


def statements(path: Path, inside: str | None) -> list[Statement]:
    """What speaks of an exported file: the manifest beside it, then the card inside it.

    Args:
        path: a .tflite or .onnx file, or the folder of a SavedModel.
        inside: the card inside it, as JSON; None where it has none.

    Raises:
        InputError: nothing speaks of it, or what does cannot be read, or the manifest has another checksum for it.
    """
    found = _found(path, inside)
    if not found:
        raise not_ours(
            path,
            f"no {MEMBER} in it and no {MANIFEST} beside it that lists it says how photographs are cut for it, nor "
            f"that its outputs are probabilities. If an earlier version of sqznet exported it, put the {MANIFEST} of "
            "its bundle beside it",
        )
    return found


def agreed(path: Path, found: list[Statement], ports: Ports) -> Card:
    """The card of a file with these ports, of what `statements` found. The manifest's, where there is one: it knows
    the data as well.

    Raises:
        InputError: they contradict the ports, or each other.
    """
    for each in found:
        _check_fit(path, each, ports)
    first, *others = found
    for other in others:
        _check_agreement(path, first, other.card)
    if first.note:
        console.say(f"note: {first.note}")
    return first.card


def bundled(folder: Path) -> list[str] | None:
    """The model files that a bundle's manifest lists, the nearest to the trained model first; None of another folder.

    Raises:
        InputError: the manifest cannot be read.
    """
    if not (folder / MANIFEST).is_file() or (folder / "saved_model.pb").is_file():
        return None
    listed = _listed(_read(folder / MANIFEST))
    if listed is None:
        return None

    def place(name: str) -> tuple[int, int, str]:
        quantize, form = (str(listed[name].get(key)) for key in ("quantize", "format"))
        return _place(quantize, QUANTIZATIONS), _place(form, FORMATS), name

    return sorted((name for name in listed if Path(name).name == name), key=place)


def _place(name: str, order: tuple[str, ...]) -> int:
    return order.index(name) if name in order else len(order)


def card_of_onnx(path: Path) -> Card | None:
    """The card of an .onnx file that sqznet has exported; None of any other."""
    found = _found(path, metadata.card_in_onnx(path))
    return found[0].card if found else None


def _found(path: Path, inside: str | None) -> list[Statement]:
    own = _inside(path, inside)
    return [each for each in (_in_manifest(path, has_card=own is not None), own) if each is not None]


def _inside(path: Path, text: str | None) -> Statement | None:
    if text is None:
        return _of_an_earlier_version(path) if kind(path) == ".tflite" else None
    where = f"{MEMBER} inside {path}"
    return Statement(keras_file.card_from_dict(_parsed(text, where), where), where)


def _of_an_earlier_version(path: Path) -> Statement | None:
    """What a .tflite file says that was exported before files carried a card: its labels, and the crop in words."""
    found = _DESCRIPTION.search(path.read_bytes())
    words = metadata.labels_of(path) if found else None
    if found is None or words is None:
        return None
    preprocessing = Preprocessing(
        image_size=int(found["image_size"]),
        resize_to=int(found["resize_to"]),
        resize="short" if found["resize"] == b"the short side" else "squash",
        interpolation=found["interpolation"].decode(),
        antialias=found["antialias"] == b"antialiased",
    )
    crop = found[0].decode().removeprefix("Image classifier. ")
    note = (
        f"{path} was exported by an earlier version of sqznet, and its {MANIFEST} is not beside it. Its own metadata "
        f"say: {crop}. They do not say which photographs it was trained on"
    )
    return Statement(Card(words, preprocessing), f"the metadata inside {path}", note)


def _in_manifest(path: Path, *, has_card: bool) -> Statement | None:
    """What the manifest.json beside a file says, if it speaks of this file.

    Args:
        has_card: whether the file speaks for itself. Then a manifest that is none of ours is passed over: many programs
            have files of this name.

    Raises:
        InputError: it cannot be read, or has another sha256 for the file.
    """
    if not path.name:
        path = path.resolve()  # a SavedModel named as `.`
    manifest = path.parent / MANIFEST
    if not manifest.is_file():
        return None
    try:
        content = _read(manifest)
        listed = _listed(content)
        if listed is None:
            return None
        own = files.sha256_below(path)
        # A file of the bundle under another name is still that file.
        if path.name not in listed and own not in (entry.get("sha256") for entry in listed.values()):
            return None
        said = Statement(keras_file.card_from_dict(content, where=str(manifest)), str(manifest))
    except InputError:
        if has_card:
            return None
        raise
    if listed.get(path.name, {}).get("sha256", own) != own:
        raise InputError(
            f"{path} does not have the sha256 that {manifest} gives: it was changed or damaged, or is another file; "
            "export again"
        )
    return said


def _read(manifest: Path) -> Any:
    try:
        return _parsed(manifest.read_text(), str(manifest))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{manifest} cannot be read: {error}") from None


def _listed(manifest: Any) -> dict[str, dict[str, Any]] | None:
    """The files of a bundle's manifest; None of another program's: browsers and app stores have files of this name."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict):
        return None
    return {name: entry for name, entry in listed.items() if isinstance(entry, dict)}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read: {error}") from None


def _check_fit(path: Path, said: Statement, ports: Ports) -> None:
    card, size = said.card, ports.image_size
    if card.classes is not None and len(card.classes) != ports.classes:
        is_manifest = said.where.endswith(MANIFEST)
        why = "it is the manifest of other files" if is_manifest else "the file was changed after the export"
        remedy = "keep exported files together with their own" if is_manifest else "export again"
        raise InputError(
            f"{path} has {ports.classes} outputs, and {said.where} lists {len(card.classes)} classes: {why}; {remedy}"
        )
    if card.preprocessing.image_size != size:
        raise InputError(
            f"{path} takes images of {size} x {size} pixels, and {said.where} says {card.preprocessing.image_size}: "
            "they do not belong together; export again"
        )


def _check_agreement(path: Path, manifest: Statement, inside: Card) -> None:
    said, own = manifest.card, inside.preprocessing.to_dict()
    pairs = [(name, own[name], value) for name, value in said.preprocessing.to_dict().items()]
    if inside.classes is not None and said.classes is not None:
        # In words: an earlier version's files have nothing else.
        words = zip(labels.readable(inside.classes), labels.readable(said.classes), strict=True)
        pairs += [(f"class {index}", *both) for index, both in enumerate(words)]
    for name, in_file, in_manifest in pairs:
        if in_file != in_manifest:
            raise InputError(
                f"{path} and {manifest.where} disagree: {name} is {in_file!r} in the file and {in_manifest!r} in the "
                "manifest, which was changed after the export; export again, or take it away to go by the file"
            )
