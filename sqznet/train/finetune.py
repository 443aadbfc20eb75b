"""Prepares fine-tuning: initial weights from a trained network, frozen layers, and layer-wise learning rates."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sqznet.core.errors import InputError
from sqznet.network import labels
from sqznet.network import model as models
from sqznet.network.architecture import MODULES, Channels, Network
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from sqznet.recipes import NETWORK_FIELDS, Recipe

MAX_LISTED = 5  # classes in a message


@dataclass(frozen=True)
class Origin:
    """The network that a run starts from. `arrays` contains its weights by layer and variable."""

    path: Path
    network: Network
    channel_means: Channels
    channel_deviations: Channels
    card: Card
    arrays: dict[tuple[str, str], np.ndarray]

    def adapt(self, recipe: Recipe, chosen: Container[str]) -> Recipe:
        """Returns the recipe with the fields of this network, except for the fields that the user has `chosen`."""
        fields = {name: getattr(self.network, name) for name in NETWORK_FIELDS if name not in chosen}
        return recipe.replace(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Returns the entry in config.json."""
        return {
            "path": str(self.path),
            "channel_means": list(self.channel_means),
            "channel_deviations": list(self.channel_deviations),
            "pretrained_on": self.card.pretrained_on,
            "weights": self.card.weights,
        }

    def put_into(self, model: keras.Model, classes: tuple[str, ...]) -> int:
        """Sets the weights of a fresh model. Returns the number of classes whose conv10 outputs were copied.

        conv10 has an output for each class. The outputs of `known_outputs` are copied. The others stay random.

        Raises:
            InputError: a variable of the model is not in these weights, or has another shape. The error names the first
                one.
        """
        outputs, _ = self.known_outputs(classes)
        for layer in model.layers:
            for variable in layer.variables:
                if variable.name == "seed_generator_state":  # of dropout, set by the run
                    continue
                array, shape = self.arrays.get((layer.name, variable.name)), tuple(variable.shape)
                if array is not None and module_of(layer.name) == "conv10":
                    fresh = np.array(variable)
                    fresh[..., list(outputs)] = array[..., list(outputs.values())]
                    array = fresh
                if array is None or array.shape != shape:
                    there = "lacks it" if array is None else f"has {array.shape}"
                    raise InputError(
                        f"--init_weights={self.path} does not fit: {layer.name}/{variable.name} is {shape} in this "
                        f"network, and the file {there}; leave out --arch, --batch_norm and --bypass"
                    )
                variable.assign(array)
        return len(outputs)

    def known_outputs(self, classes: tuple[str, ...]) -> tuple[dict[int, int], str]:
        """Matches `classes` to the outputs of these weights: {output for classes: output of weights}, and the method.

        Classes are matched by name. If one side has numbers instead of names, and both sides have the same number of
        classes, the classes are matched by order. If both sides have numbers, the classes are matched by order if their
        counts are equal or if no number occurs on both sides.
        """
        theirs = self.card.classes or tuple(map(str, range(self.network.classes)))
        here, there = _numbers(classes), _numbers(theirs)
        by_name = _by_name(classes, theirs)
        as_many = len(classes) == len(theirs)
        if by_name and all(map(str.isdecimal, (*classes, *theirs))) and not (here and there and as_many):
            return by_name, f"the same numbers: {_listed([classes[output] for output in by_name])}"
        if here or there:
            side = "data and weights do" if here and there else "the data does" if here else "the weights do"
            how = f"{side} not name the classes"
            if not as_many and not (here and there):
                return {}, how
            outputs = {number: output for output, number in enumerate(there or range(len(theirs)))}
            numbers = here or range(len(classes))
            shared = {mine: outputs[number] for mine, number in enumerate(numbers) if number in outputs}
            return shared, f"by their order, since {how}"
        return by_name, "" if by_name else f"the weights have other classes: {_listed(labels.readable(theirs))}"


def hints(classes: tuple[str, ...], theirs: tuple[str, ...]) -> list[str]:
    """Returns messages about classes without an output in the weights for which the weights have a similar name."""
    shown = labels.readable(theirs)
    found = []
    for name, outputs in zip(classes, labels.match(classes, theirs), strict=True):
        if len(outputs) > 1:
            names = " or ".join(repr(shown[output]) for output in outputs)
            found.append(f"{name!r} may be {names}: use one of these names")
        elif not outputs and (close := labels.close_to(name, theirs)):
            found.append(f"{name!r} is similar to {close[0]!r}")
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")


def _numbers(classes: tuple[str, ...]) -> list[int] | None:
    """Returns the classes as numbers from 0 on, if their names are numbers from 0 or 1 on, or else None."""
    numbers = [int(name) for name in classes if name.isdecimal() and len(name) < 10]
    first = min(numbers, default=0)
    if first > 1 or sorted(numbers) != list(range(first, first + len(classes))):
        return None
    return [number - first for number in numbers]


def _by_name(classes: tuple[str, ...], theirs: tuple[str, ...]) -> dict[int, int]:
    """Matches outputs by `labels.match`, as in `known_outputs`. Ambiguous classes are left out."""
    matched = labels.match(classes, theirs)
    outputs: dict[int, int] = {}
    # If two classes match one output, the class with the same spelling gets the output.
    for here in sorted(range(len(classes)), key=lambda index: classes[index] not in theirs):
        found = matched[here]
        if len(found) == 1 and found[0] not in outputs.values():
            outputs[here] = found[0]
    return outputs


def load(path: Path) -> Origin:
    """Loads a run folder, a .keras file or published weights (a file, or a name).

    Raises:
        InputError: the file cannot be read, or is not a SqueezeNet of this package.
    """
    model, card = inference.load_keras(path)
    network, channel_means, channel_deviations = models.describe(model, card.preprocessing.image_size)
    arrays = {(layer.name, each.name): np.asarray(each) for layer in model.layers for each in layer.variables}
    return Origin(path, network, channel_means, channel_deviations, card, arrays)


def module_of(layer_name: str) -> str:
    """Returns the module that a layer belongs to: conv1, fire2, ... conv10."""
    return layer_name.split("_")[0]


def freeze(model: keras.Model, recipe: Recipe) -> None:
    """Freezes the layers before the module of recipe.freeze, with the statistics of their batch norms."""
    if recipe.freeze is None:
        return
    first = MODULES.index(recipe.freeze.removeprefix("until:"))
    for layer in model.layers:
        module = module_of(layer.name)
        if module in MODULES and MODULES.index(module) < first:
            layer.trainable = False


def rate_scales(model: keras.Model, recipe: Recipe) -> list[float]:
    """Returns the factor of the learning rate for each trainable variable: 1 in conv10, smaller in earlier modules.

    Discriminative fine-tuning by modules (Howard and Ruder 2018, arXiv 1801.06146, section 3.2).
    """
    module = {variable.path: module_of(layer.name) for layer in model.layers for variable in layer.variables}
    last = len(MODULES) - 1
    return [recipe.layer_decay ** (last - MODULES.index(module[each.path])) for each in model.trainable_variables]
