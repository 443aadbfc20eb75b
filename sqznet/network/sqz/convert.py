"""Converts between Keras models and the contents of `.sqz` files."""

from __future__ import annotations

import json
from pathlib import Path

import keras

from sqznet.core.errors import InputError
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, labels
from sqznet.network import model as models
from sqznet.network.keras_file import Card
from sqznet.network.sqz import decoder


def of_keras(model: keras.Model, card: Card) -> decoder.Contents:
    """Returns the contents of a file for a model from `fold.without_batch_norm`, with the weights of the model."""
    preprocessing = card.preprocessing
    network, means, deviations = models.describe(model, preprocessing.image_size)
    names: tuple[str, ...] | str | None = card.classes
    if names == tuple(labels.imagenet()):
        names = "imagenet"
    elif names and any("\n" in name for name in names):
        raise InputError("a class has a line break in its name, which a .sqz file cannot hold")
    origin = {"pretrained_on": card.pretrained_on, "weights": card.weights}
    return decoder.Contents(
        arch=network.arch,
        activation=network.activation,
        bypass=network.bypass,
        conv10_padding=network.conv10_padding,
        classes=network.classes,
        class_names=names,
        **preprocessing.to_dict(),
        channel_means=means,
        channel_deviations=deviations,
        note=json.dumps(origin) if any(origin.values()) else "",
        layers={layer.name: tuple(layer.get_weights()) for layer in models.convolutions(model)},
    )


def to_keras(stored: decoder.Contents) -> tuple[keras.Model, Card]:
    """Builds the model of a decoded file (uint8 RGB pixels to logits). Also returns its card."""
    network = architecture.Network(
        stored.classes, stored.arch, stored.activation, False, stored.bypass, stored.conv10_padding, stored.image_size
    )
    model = models.build(network, channel_means=stored.channel_means, channel_deviations=stored.channel_deviations)
    for name, weights in stored.layers.items():
        model.get_layer(name).set_weights(weights)
    names = tuple(labels.imagenet()) if isinstance(stored.class_names, str) else stored.class_names
    preprocessing = Preprocessing(
        stored.image_size, stored.resize_to, stored.resize, stored.interpolation, stored.antialias
    )
    try:
        origin = json.loads(stored.note or "{}")
        return model, Card(names, preprocessing, pretrained_on=origin["pretrained_on"], weights=origin["weights"])
    except (ValueError, KeyError, TypeError):  # a note that another program wrote
        return model, Card(names, preprocessing)


def load(path: Path) -> tuple[keras.Model, Card]:
    """Reads the model and the card of a `.sqz` file.

    Raises:
        InputError: there is no such file, or the file is damaged.
    """
    try:
        return to_keras(decoder.decode(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except decoder.Damaged as error:
        raise InputError(f"{path} cannot be decoded: {error}") from None
