"""Reads and writes .keras files of this package. Such a file is Keras's own archive with one more member, the card.

The card contains everything that the weights do not contain. Therefore one file is enough to evaluate, export or
fine-tune a model. Keras itself loads the file like any other .keras file.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core import files, threshold, typed
from sqznet.core.errors import InputError
from sqznet.core.version import __version__
from sqznet.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

MEMBER = "sqznet.json"
_PREPROCESSING = [field.name for field in dataclasses.fields(Preprocessing)]
_REQUIRED = {"classes": list[str], "preprocessing": dict}
_OPTIONAL = {
    "data": str | None,
    "pretrained_on": str | None,
    "weights": dict | None,
    "temperature": dict | None,
    "answered": list[dict] | None,
    "threshold": dict | None,
}
_TEMPERATURE = {"value": float, "split": str, "records": int, "records_sha256": str}
_THRESHOLD = {"value": float, "min_precision": float}
_LATER = ("temperature", "answered", "threshold")  # fields that a card without them does not write, as earlier versions


@dataclass(frozen=True)
class Card:
    """Contains the facts about a model that its weights do not contain."""

    classes: tuple[str, ...] | None  # in the order of the outputs; None for a .sqz file without class names
    preprocessing: Preprocessing
    data: str | None = None  # folder of the shards it was trained on, as `remote.published` names it
    pretrained_on: str | None = None  # data set of the published weights that training started from
    weights: dict[str, Any] | None = None  # those weights: file, sha256, format and the like
    # The calibration (`evaluate.temperature`): value, split, records, records_sha256. The outputs of an exported file
    # are divided by the value already. The logits of a Keras model are not.
    temperature: dict[str, Any] | None = None
    answered: list[dict[str, Any]] | None = None  # of the calibrated model on val: `core.threshold.table`
    # Of an exported file: `value`, the largest probability below which the answer is "not sure", and `min_precision`,
    # the accuracy for which it was chosen.
    threshold: dict[str, Any] | None = None

    @property
    def divisor(self) -> float:
        """The value that the logits of the Keras model are divided by before the softmax. 1 without calibration."""
        return 1.0 if self.temperature is None else self.temperature["value"]

    def to_dict(self) -> dict[str, Any]:
        content = {"sqznet": __version__, **dataclasses.asdict(self)}
        return {name: value for name, value in content.items() if name not in _LATER or value is not None}


def card_from_dict(content: Any, where: str) -> Card:
    """Builds a card from parsed JSON, as in a .keras file or in export's manifest.json.

    Raises:
        InputError: a field is missing or of another type.
    """
    try:
        typed.require(content, _REQUIRED, where)
        if not content["classes"]:
            raise InputError(f"{where}: classes is empty; expected a name for each output")
        optional = {name: content.get(name) for name in _OPTIONAL}
        typed.require(optional, _OPTIONAL, where)
        if optional["temperature"] is not None:
            typed.require(optional["temperature"], _TEMPERATURE, f"{where}, temperature")
            if optional["temperature"]["value"] <= 0:
                raise InputError(f"{where}: temperature is {optional['temperature']['value']}; expected more than 0")
        for row in optional["answered"] or ():
            typed.require(row, threshold.ROW, f"{where}, answered")
        if optional["threshold"] is not None:
            typed.require(optional["threshold"], _THRESHOLD, f"{where}, threshold")
            if not 0 <= optional["threshold"]["value"] <= 1:
                raise InputError(f"{where}: threshold is {optional['threshold']['value']}; expected 0 to 1")
        preprocessing = {"antialias": True, **content["preprocessing"]}  # version 0.2 always antialiased
        preprocessing = {name: preprocessing[name] for name in _PREPROCESSING}
        return Card(tuple(content["classes"]), Preprocessing(**preprocessing), **optional)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} cannot be read ({type(error).__name__}: {error})") from None


def save(model: keras.Model, card: Card, path: Path) -> None:
    """Writes a model and its card as one .keras file (an atomic write)."""
    with files.replacing(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(MEMBER, json.dumps(card.to_dict(), indent=1))


def replace_card(path: Path, card: Card) -> None:
    """Writes another card into a file that `save` wrote (an atomic write). The other members keep their bytes."""
    with files.replacing(path) as temporary, zipfile.ZipFile(path) as before, zipfile.ZipFile(temporary, "w") as after:
        for member in before.infolist():
            if member.filename != MEMBER:
                after.writestr(member, before.read(member))
        after.writestr(MEMBER, json.dumps(card.to_dict(), indent=1))


def read_card(path: Path) -> Card:
    """Reads the card of a file that `save` wrote.

    Raises:
        InputError: there is no such file, the file is damaged, or this package did not write it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(MEMBER))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except KeyError:
        raise InputError(
            f"{path} was not written by sqznet 0.2 or later: it holds no {MEMBER}. If it is a sqznet.SqueezeNet that "
            f"Keras has saved, add its classes in Python: sqznet.Classifier.from_keras({str(path)!r}, "
            "classes=[...]).save('NEW.keras')"
        ) from None
    except Exception as error:  # zipfile raises many types on a damaged archive
        raise InputError(f"{path} cannot be loaded as a Keras model: {error}") from None
    return card_from_dict(content, where=f"{path}, {MEMBER}")


def load(path: Path) -> tuple[keras.Model, Card]:
    """Reads the model and the card that `save` wrote.

    Raises:
        InputError: there is no such file, the file is damaged, or this package did not write it.
    """
    import keras  # here, because exported files use cards without TensorFlow

    card = read_card(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True), card
    except Exception as error:
        raise InputError(f"{path} cannot be loaded as a Keras model: {error}") from None
