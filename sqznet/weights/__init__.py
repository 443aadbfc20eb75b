"""Imports published weights from files of many formats as a Keras model: `python -m sqznet.weights`.

`read` parses and checks a file without TensorFlow. `build` makes the model, which takes RGB pixels 0..255.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet.core import console, files
from sqznet.core.errors import InputError
from sqznet.data.sources import class_names
from sqznet.images import geometry
from sqznet.network import exported, labels
from sqznet.network.architecture import Network
from sqznet.network.keras_file import Card
from sqznet.weights import convolutions, formats
from sqznet.weights.catalogue import CATALOGUE
from sqznet.weights.conventions import CONVENTIONS, Convention
from sqznet.weights.convolutions import Found

if TYPE_CHECKING:
    import keras

IMAGENET_TRAIN = "ImageNet (ILSVRC 2012) train"


@dataclass(frozen=True)
class ImportOptions:
    """Contains properties that a file may not state.

    None means the value in the file, or the usual value of its format.
    """

    input: str | None = None  # key of CONVENTIONS
    activation: str | None = None
    image_size: int | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Published:
    """Contains a checked SqueezeNet from which a model can be built."""

    found: Found
    network: Network
    convention: Convention
    card: Card

    def with_geometry(self, given: dict[str, Any]) -> Published:
        """Returns the same network with another card.

        The card contains the user's scaling and cropping (`geometry.given`).
        """
        if not given:
            return self
        preprocessing = geometry.applied(self.card.preprocessing, given)
        stored = {**(self.card.weights or {}), "geometry_override": given}
        card = dataclasses.replace(self.card, preprocessing=preprocessing, weights=stored)
        return dataclasses.replace(self, card=card)


def read(source: Path, options: ImportOptions = ImportOptions()) -> Published:
    """Reads a file of weights. `source` is a path, or a name of the catalogue. The file of a name is downloaded.

    Raises:
        InputError: the file is damaged, or its network is not a SqueezeNet. Or neither the file nor the options state a
            property that is needed.
    """
    entry = CATALOGUE.get(str(source)) if not source.exists() else None
    if entry is None and not source.exists():
        raise InputError(f"no such file: {source}; nor is it one of {', '.join(CATALOGUE)}")
    path = source
    if entry is not None:
        from sqznet.weights import download  # urllib takes a while to import

        path = download.fetch(str(source), entry, download.cache_folder())
    format_name, found = formats.read(path)
    if options.activation is not None:
        if found.activation not in (None, options.activation):
            raise InputError(f"{source} has {found.activation} after its convolutions, not {options.activation}")
        found = dataclasses.replace(found, activation=options.activation)
    if options.input is not None:
        found = dataclasses.replace(found, pixels=options.input)
    network = convolutions.check(found, str(path))
    own = exported.card_of_onnx(path) if format_name == "ONNX" else None
    pixels = found.pixels or ("raw" if own else None)
    if pixels is None:
        known = "; ".join(f"{name}: {convention.about}" for name, convention in CONVENTIONS.items())
        raise InputError(
            f"{path} does not say which pixels the network was trained on; import it with "
            f"`python -m sqznet.weights --source={path} --input=... --out=model.keras`. {known}"
        )
    if pixels not in CONVENTIONS:
        raise InputError(f"no input {pixels!r}; there are {', '.join(CONVENTIONS)}")
    convention = CONVENTIONS[pixels]
    size = options.image_size or found.image_size
    usual = own.preprocessing if own else convention.preprocessing
    preprocessing = usual.at(size) if size else usual
    if pixels == "raw" and own is None:
        console.say(f"note: {path} does not state its preprocessing; using: {preprocessing.steps}")
    classes, is_imagenet = _classes(network.classes, options.classes or (own.classes if own else None), path)
    card = Card(
        classes=classes,
        preprocessing=preprocessing,
        pretrained_on=own.pretrained_on if own else IMAGENET_TRAIN if is_imagenet else None,
        weights={
            "file": path.name,
            "sha256": files.sha256_of(path),
            "format": format_name,
            "input": pixels,
            **(entry.to_dict() if entry else {}),
        },
    )
    network = dataclasses.replace(network, image_size=preprocessing.image_size)
    return Published(found, network, convention, card)


def _classes(count: int, given: tuple[str, ...] | None, path: Path) -> tuple[tuple[str, ...], bool]:
    """Returns the names of the classes, and whether they are the 1,000 classes of ImageNet."""
    imagenet = tuple(labels.imagenet())
    if given is not None:
        if len(given) != count:
            raise InputError(f"{path} has {count} classes, and {len(given)} labels are given")
        return given, count == len(imagenet)  # perhaps the same classes in other words
    return (imagenet, True) if count == len(imagenet) else (tuple(map(str, range(count))), False)


def read_labels(path: Path) -> tuple[str, ...]:
    """Reads the class names in a file, in the order of their labels. The rules are those for the labels.txt of shards.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        named, _ = class_names.read(path)
    except OSError as error:
        raise InputError(f"--labels={path} cannot be read: {error.strerror}") from None
    return tuple(named[label] for label in sorted(named))


def build(published: Published) -> keras.Model:
    """Builds the Keras model, which takes uint8 RGB pixels 0..255 and gives logits."""
    from sqznet.network import model as models

    convention = published.convention
    model = models.build(published.network, channel_means=convention.means, channel_deviations=convention.deviations)
    for name, each in published.found.convolutions.items():
        kernel = convention.kernel(each.kernel) if name == "conv1" else each.kernel
        # (out, in, height, width) to (height, width, in, out)
        model.get_layer(name).set_weights([np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), each.bias])
    return model


def load(source: Path, options: ImportOptions = ImportOptions()) -> tuple[keras.Model, Card]:
    """Reads a file of weights with `read`, then builds the model with `build`."""
    published = read(source, options)
    return build(published), published.card
