"""Finds the cards of an exported file: the card inside the file, and the card in the manifest.json beside the file.

A file outside its bundle can be read, because it contains its card (`network/metadata.py`). A file without a card is
refused, unless a manifest lists it. The crop of such a file is unknown, and its outputs may not be probabilities.
"""

from __future__ import annotations

import itertools
import re
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqznet.core import console, files, typed
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import keras_file, labels, metadata
from sqznet.network.keras_file import MEMBER, Card
from sqznet.network.sqz import decoder

BUNDLE_MANIFEST = "manifest.json"
# The first file in this order represents a bundle: the file nearest to the trained model, then the file whose runtime
# starts soonest.
_PREFERENCE = list(itertools.product(("none", "float16", "dynamic", "int8"), ("tflite", "onnx", "savedmodel")))

# The description in the metadata of a .tflite file, from before files carried a card.
_DESCRIPTION = re.compile(
    rb"Image classifier\. scale (?P<resize>the short side|both sides, whatever the shape,) to (?P<resize_to>\d+) "
    rb"pixels \((?P<interpolation>\w+), (?P<antialias>not antialiased|antialiased)\), "
    rb"cut out the central square of (?P<image_size>\d+)"
)


def suffix_of(path: Path) -> str:
    """Returns the suffix in lower case that a model file should have, from its content, or else from its name."""
    return content_suffix(path) or path.suffix.lower()


def content_suffix(path: Path) -> str | None:
    """Returns the suffix for a file's content, or None without a known mark (folders, ONNX of other programs)."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] == b"TFL3":
        return ".tflite"
    if head.startswith(decoder.MAGIC[:4]):
        return ".sqz"
    if head.startswith(b"PK"):
        return ".keras" if _is_keras(path) else None
    # ONNX has no mark of its own. A file starts with its version field. sqznet's files contain the name of the card.
    return ".onnx" if head.startswith(b"\x08") and MEMBER.encode() in path.read_bytes() else None


def _is_keras(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {MEMBER, "model.weights.h5"} <= set(archive.namelist())
    except Exception:  # zipfile raises many types on a damaged archive; the loader reports the damage
        return False


class Ports(Protocol):
    """The shapes of a loaded model."""

    image_size: int
    classes: int


@dataclass(frozen=True)
class FoundCard:
    """A card, and the place where it was read."""

    card: Card
    where: str
    note: str | None = None  # for the user


def foreign_file(path: Path, why: str) -> InputError:
    """Returns the error for a model that another program wrote, with the remedy."""
    command = "python -m sqznet.weights --source={} --out=model.keras"
    if suffix_of(path) == ".onnx":
        source = shlex.quote(str(path))
        remedy = "Import a SqueezeNet of another program, and use the model.keras that this writes: "
        remedy += command.format(source)
    else:
        what = "A SavedModel" if path.is_dir() else "A TFLite file"
        remedy = (
            f"{what} cannot be imported; the weights that it was made from can, if it is a SqueezeNet (ONNX, "
            f"safetensors, caffemodel and others): {command.format('FILE')}"
        )
    return InputError(f"{path} is not a file exported by sqznet: {why}. {remedy}")


def find_cards(path: Path, inside: str | None) -> list[FoundCard]:
    """Returns the cards of an exported file: the manifest's card first, then the file's own.

    Args:
        path: a .tflite or .onnx file, or the folder of a SavedModel.
        inside: the card inside the file, as JSON, or None if there is none.

    Raises:
        InputError: there is no card, a card cannot be read, or the manifest lists another checksum for the file.
    """
    found = _find_cards(path, inside)
    if not found:
        raise foreign_file(
            path,
            f"it has no {MEMBER} inside and no {BUNDLE_MANIFEST} beside it that lists it, so its crop is unknown, and "
            "so is whether its outputs are probabilities. If an earlier version of sqznet exported it, put the "
            f"{BUNDLE_MANIFEST} of its bundle beside it",
        )
    return found


def consistent_card(path: Path, found: list[FoundCard], ports: Ports) -> Card:
    """Returns the first card that `find_cards` found: the manifest's if there is one, as only that card names the data.

    Raises:
        InputError: the cards contradict each other or the file's ports.
    """
    for each in found:
        _check_ports(path, each, ports)
    first, *others = found
    for other in others:
        _check_agreement(path, first, other.card)
    if first.note:
        console.say(f"note: {first.note}")
    return first.card


def bundle_files(folder: Path) -> list[str] | None:
    """Lists the model files in a bundle's manifest. The file that is nearest to the trained model comes first.

    Returns None if it is no bundle.

    Raises:
        InputError: the manifest cannot be read.
    """
    if not (folder / BUNDLE_MANIFEST).is_file() or (folder / "saved_model.pb").is_file():
        return None
    listed = _listed(typed.read_json(folder / BUNDLE_MANIFEST))
    if listed is None:
        return None

    def place(name: str) -> tuple[int, str]:
        kind = listed[name].get("quantize"), listed[name].get("format")
        return _PREFERENCE.index(kind) if kind in _PREFERENCE else len(_PREFERENCE), name

    return sorted((name for name in listed if Path(name).name == name), key=place)


def card_of_onnx(path: Path) -> Card | None:
    """Returns the card of an .onnx file that sqznet exported, or None for any other file."""
    found = _find_cards(path, metadata.card_in_onnx(path))
    return found[0].card if found else None


def _find_cards(path: Path, inside: str | None) -> list[FoundCard]:
    if inside is not None:
        where = f"{MEMBER} inside {path}"
        own: FoundCard | None = FoundCard(keras_file.card_from_dict(typed.parse_json(inside, where), where), where)
    else:
        own = _from_description(path) if suffix_of(path) == ".tflite" else None
    return [each for each in (_in_manifest(path, has_card=own is not None), own) if each is not None]


def _from_description(path: Path) -> FoundCard | None:
    """Reads the card of a .tflite file from before files carried a card, from its description and its labels."""
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
        f"{path} was exported by an earlier version of sqznet, and its {BUNDLE_MANIFEST} is not beside it. Its own "
        f"metadata say: {crop}. They do not name the training data"
    )
    return FoundCard(Card(words, preprocessing), f"the metadata inside {path}", note)


def _in_manifest(path: Path, *, has_card: bool) -> FoundCard | None:
    """Returns the card in the manifest.json beside a file, or None if the manifest does not list this file.

    Args:
        has_card: whether the file has a card of its own. Then a manifest that sqznet did not write is ignored: many
            programs use this file name.

    Raises:
        InputError: the manifest cannot be read, or lists another sha256 for the file.
    """
    if not path.name:
        path = path.resolve()  # a SavedModel given as `.`
    manifest = path.parent / BUNDLE_MANIFEST
    if not manifest.is_file():
        return None
    try:
        content = typed.read_json(manifest)
        listed = _listed(content)
        if listed is None:
            return None
        own = files.sha256_below(path)
        # A file of the bundle may have been renamed.
        if path.name not in listed and own not in (entry.get("sha256") for entry in listed.values()):
            return None
        found = FoundCard(keras_file.card_from_dict(content, where=str(manifest)), str(manifest))
    except InputError:
        if has_card:
            return None
        raise
    if listed.get(path.name, {}).get("sha256", own) != own:
        raise InputError(
            f"{path} does not have the sha256 that {manifest} gives: it was changed or damaged, or is another file; "
            "export again"
        )
    return found


def _listed(manifest: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Returns the files in a bundle's manifest, or None for a manifest.json of a browser or an app store."""
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        return None
    return {name: entry for name, entry in listed.items() if isinstance(entry, dict)}


def _check_ports(path: Path, found: FoundCard, ports: Ports) -> None:
    card, size = found.card, ports.image_size
    if card.classes is not None and len(card.classes) != ports.classes:
        is_manifest = found.where.endswith(BUNDLE_MANIFEST)
        why = "it is the manifest of other files" if is_manifest else "the file was changed after the export"
        remedy = "keep exported files together with their own" if is_manifest else "export again"
        raise InputError(
            f"{path} has {ports.classes} outputs, and {found.where} lists {len(card.classes)} classes: {why}; {remedy}"
        )
    if card.preprocessing.image_size != size:
        raise InputError(
            f"{path} takes images of {size} x {size} pixels, and {found.where} says {card.preprocessing.image_size}: "
            "they do not belong together; export again"
        )


def _check_agreement(path: Path, manifest: FoundCard, inside: Card) -> None:
    listed, own = manifest.card, inside.preprocessing.to_dict()
    pairs = [(name, own[name], value) for name, value in listed.preprocessing.to_dict().items()]
    if inside.classes is not None and listed.classes is not None:
        # As readable names: files of an earlier version have nothing else.
        names = zip(labels.readable(inside.classes), labels.readable(listed.classes), strict=True)
        pairs += [(f"class {index}", *both) for index, both in enumerate(names)]
    for name, in_file, in_manifest in pairs:
        if in_file != in_manifest:
            raise InputError(
                f"{path} and {manifest.where} disagree: {name} is {in_file!r} in the file and {in_manifest!r} in the "
                "manifest, which was changed after the export; export again, or remove the manifest to use the file's"
            )
