"""Builds a SqueezeNet as a Keras model, as `keras.applications` builds other networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.network import model as models
from sqznet.network.architecture import ARCHS, Channels, Network
from sqznet.predict import inference

IMAGENET_MEANS: Channels = (123.0, 117.0, 104.0)  # R, G, B, as for the published weights
IMAGE_SIZE = 227  # pixels, as in the paper's released network
PROBABILITIES = "probabilities"  # name of the softmax layer


def build(
    version: str,
    *,
    weights: str | Path | None,
    include_top: bool,
    classes: int,
    image_size: int | None,
    classifier_activation: str | None,
    activation: str,
    dropout: float | None,
) -> keras.Model:
    """Builds the network that `sqznet.SqueezeNet` describes."""
    if version not in ARCHS:
        raise InputError(f"no SqueezeNet {version!r}; there are {', '.join(ARCHS)}")
    if classifier_activation not in ("softmax", None):
        raise InputError(f"classifier_activation is {classifier_activation!r}; it must be 'softmax' or None")
    source, means, deviations = None, IMAGENET_MEANS, (1.0, 1.0, 1.0)
    network = Network(classes, version, activation, image_size=image_size or IMAGE_SIZE)
    if weights is not None:
        path = Path(f"squeezenet-{version}" if weights == "imagenet" else weights)
        source, card = inference.load_keras(path)
        theirs, means, deviations = models.describe(source, image_size or card.preprocessing.image_size)
        if theirs.arch != version:
            raise InputError(f"{path} is a SqueezeNet {theirs.arch}, not {version}: give version={theirs.arch!r}")
        network = dataclasses.replace(theirs, classes=classes)
    model = models.build(network, channel_means=means, channel_deviations=deviations, dropout=dropout)
    if source is not None:
        _copy(source, model)
    if not include_top:
        features = next(layer for layer in reversed(model.layers) if layer.name in ("fire9", "fire9_bypass"))
        return keras.Model(model.input, features.output, name="squeezenet")
    if classifier_activation is None:
        return model
    return keras.Model(model.input, keras.layers.Softmax(name=PROBABILITIES)(model.output), name="squeezenet")


def logits_of(model: keras.Model) -> keras.Model:
    """Returns a model of `build` without its softmax."""
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Softmax) or last.name != PROBABILITIES:
        return model
    return keras.Model(model.input, last.input, name="squeezenet")


def at_size(model: keras.Model, image_size: int) -> keras.Model:
    """Returns a copy of a network of logits, with the pools padded for images of this size, without dropout.

    Raises:
        InputError: the model was not made by `build`.
    """
    network, means, deviations = models.describe(model, image_size)
    made = models.build(network, channel_means=means, channel_deviations=deviations)
    _copy(model, made)
    padded = {layer.name: layer.padding for layer in made.layers if isinstance(layer, keras.layers.MaxPooling2D)}
    if any(model.get_layer(name).padding != padding for name, padding in padded.items()):
        console.say(
            f"note: the network was built for another image size than {image_size} pixels, so its pools have another "
            f"padding now: evaluate it again, and build the next one with sqznet.SqueezeNet(image_size={image_size})"
        )
    return made


def _copy(source: keras.Model, model: keras.Model) -> None:
    """Copies the weights of each layer. conv10 keeps its random weights if it has another number of outputs."""
    theirs = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        given = theirs.get(layer.name)
        if given is None or not given.weights:
            continue
        if [each.shape for each in given.weights] == [each.shape for each in layer.weights]:
            layer.set_weights(given.get_weights())
