"""Between Keras models and what a `.sqz` file holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core.errors import InputError
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, fold, labels
from sqznet.network import model as models
from sqznet.network.keras_file import Card
from sqznet.network.sqz import decoder

if TYPE_CHECKING:
    import keras


def without_batch_norm(trained: keras.Model, image_size: int) -> keras.Model:
    """The same function, with batch norm folded into the convolutions; still of uint8 pixels, still giving logits.

    Raises:
        InputError: `trained` is not a SqueezeNet of this package.
    """
    network, means, deviations = models.describe(trained, image_size)
    plain = _build(network, means, deviations)
    layers = {layer.name: layer for layer in trained.layers}
    for layer in convolutions(plain):
        kernel, bias = fold.fold_batch_norm(layers[layer.name], layers.get(f"{layer.name}_bn"))
        layer.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    return plain


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    import keras

    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def of_keras(model: keras.Model, card: Card) -> decoder.Network:
    """What a file says of a model of `without_batch_norm`, with its weights."""
    preprocessing = card.preprocessing
    network, means, deviations = models.describe(model, preprocessing.image_size)
    names: tuple[str, ...] | str | None = card.classes
    if names == tuple(labels.imagenet()):
        names = "imagenet"
    elif names and any("\n" in name for name in names):
        raise InputError("a class has a line break in its name, which a .sqz file cannot hold")
    origin = {"pretrained_on": card.pretrained_on, "weights": card.weights}
    return decoder.Network(
        network.arch,
        network.activation,
        network.bypass,
        network.conv10_padding,
        network.classes,
        names,
        preprocessing.image_size,
        preprocessing.resize,
        preprocessing.resize_to,
        preprocessing.interpolation,
        preprocessing.antialias,
        means,
        deviations,
        json.dumps(origin) if any(origin.values()) else "",
        {layer.name: tuple(layer.get_weights()) for layer in convolutions(model)},
    )


def to_keras(stored: decoder.Network) -> tuple[keras.Model, Card]:
    """The model of a decoded file, which takes uint8 RGB pixels and gives logits, and its card."""
    network = architecture.Network(
        stored.classes, stored.arch, stored.activation, False, stored.bypass, stored.conv10_padding, stored.image_size
    )
    model = _build(network, stored.channel_means, stored.channel_deviations)
    for name, (kernel, bias) in stored.layers.items():
        model.get_layer(name).set_weights([kernel, bias])
    names = tuple(labels.imagenet()) if isinstance(stored.class_names, str) else stored.class_names
    preprocessing = Preprocessing(
        stored.image_size, stored.resize_to, stored.resize, stored.interpolation, stored.antialias
    )
    try:
        origin = json.loads(stored.note or "{}")
        return model, Card(names, preprocessing, pretrained_on=origin["pretrained_on"], weights=origin["weights"])
    except (ValueError, KeyError, TypeError):  # a note of somebody else
        return model, Card(names, preprocessing)


def load(path: Path) -> tuple[keras.Model, Card]:
    """The model of a `.sqz` file.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    try:
        return to_keras(decoder.decode(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except decoder.Damaged as error:
        raise InputError(f"{path} cannot be decoded: {error}") from None


def _build(
    network: architecture.Network, means: architecture.Channels, deviations: architecture.Channels
) -> keras.Model:
    return models.build(
        dataclasses.replace(network, batch_norm=False), channel_means=means, channel_deviations=deviations
    )
