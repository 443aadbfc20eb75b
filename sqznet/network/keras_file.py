"""A .keras file of this package: Keras's own archive with one more member, the card of what goes with the weights.

So one file is enough to evaluate, export or fine-tune a model, wherever it has been copied to. Keras itself loads it as
any other.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet import __version__
from sqznet.core import files, typed
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

MEMBER = "sqznet.json"
_PREPROCESSING = [field.name for field in dataclasses.fields(Preprocessing)]


@dataclass(frozen=True)
class Card:
    """What is known of a model beside its weights."""

    classes: tuple[str, ...] | None  # in the order of the outputs; None of a file that has lost its manifest
    preprocessing: Preprocessing
    data: str | None = None  # folder of the shards it was trained on, as `remote.published` names it
    pretrained_on: str | None = None  # set that published weights it stems from had seen, in words
    weights: dict[str, Any] | None = None  # the published weights it stems from: file, sha256, format and the like

    def to_dict(self) -> dict[str, Any]:
        return {"sqznet": __version__, **dataclasses.asdict(self)}


def card_from_dict(content: Any, where: str) -> Card:
    """A card from parsed JSON, such as a .keras file holds and export's manifest.json does.

    Raises:
        InputError: something is missing or of another type.
    """
    try:
        typed.require(content, {"classes": list[str], "preprocessing": dict}, where)
        if not content["classes"]:
            raise InputError(f"{where}: classes is empty; expected a name for each output")
        others = {"data": str | None, "pretrained_on": str | None, "weights": dict | None}
        typed.require({name: content.get(name) for name in others}, others, where)
        return Card(
            classes=tuple(content["classes"]),
            preprocessing=_preprocessing(content["preprocessing"]),
            data=content.get("data"),
            pretrained_on=content.get("pretrained_on"),
            weights=content.get("weights"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} cannot be read ({type(error).__name__}: {error})") from None


def _preprocessing(content: dict[str, Any]) -> Preprocessing:
    content = {"antialias": True, **content}  # version 0.2 knew nothing else, and did not say so
    return Preprocessing(**{key: content[key] for key in _PREPROCESSING})


def save(model: keras.Model, card: Card, path: Path) -> None:
    """Writes model and card as one .keras file, by rename."""
    with files.replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(card.to_dict(), indent=1))


def load(path: Path) -> tuple[keras.Model, Card]:
    """What `save` wrote.

    Raises:
        InputError: there is no such file, it is damaged, or it was not written by this package.
    """
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(MEMBER))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except KeyError:
        raise InputError(f"{path} was not written by sqznet 0.2 or later: it holds no {MEMBER}") from None
    except Exception as error:  # a damaged archive surfaces as whatever its reader stumbled over
        raise InputError(f"{path} cannot be loaded as a Keras model: {error}") from None
    card = card_from_dict(content, where=f"{path}, {MEMBER}")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True), card
    except Exception as error:
        raise InputError(f"{path} cannot be loaded as a Keras model: {error}") from None
