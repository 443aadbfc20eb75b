"""Starting from a trained network: which weights are taken over, which stay as they are, how fast the others move."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet.core.errors import InputError
from sqznet.network import labels
from sqznet.network import model as models
from sqznet.network.architecture import MODULES, Channels, Network
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from sqznet.recipes import NETWORK_FIELDS, Recipe

if TYPE_CHECKING:
    import keras

LISTED = 5  # most classes that a message lists


@dataclass(frozen=True)
class Origin:
    """The network that a run starts from: its weights, by layer and variable, and what is known of it."""

    path: Path
    network: Network
    channel_means: Channels
    channel_deviations: Channels
    card: Card
    arrays: dict[tuple[str, str], np.ndarray]

    def adapt(self, recipe: Recipe, chosen: Container[str]) -> Recipe:
        """The recipe for this network: what the user has not `chosen` (by field) is as the weights need it."""
        fields = {name: getattr(self.network, name) for name in NETWORK_FIELDS if name not in chosen}
        return recipe.replace(**fields)

    def stored(self) -> dict[str, Any]:
        """What config.json keeps of it."""
        return {
            "path": str(self.path),
            "channel_means": list(self.channel_means),
            "channel_deviations": list(self.channel_deviations),
            "pretrained_on": self.card.pretrained_on,
            "weights": self.card.weights,
        }

    def put_into(self, model: keras.Model, classes: tuple[str, ...]) -> int:
        """Sets the weights of a fresh model of these classes, and returns how many of them conv10 knew.

        conv10 has an output for each class. Those of `known_outputs` are taken over, the others start anew.

        Raises:
            InputError: the model has a layer that these weights are not for; names the first.
        """
        outputs, _ = self.known_outputs(classes)
        for layer in model.layers:
            for variable in layer.variables:
                if variable.name == "seed_generator_state":  # the dropout's, which is the run's own
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
        """From output of a network of these classes to output of these weights, and how they were found, in words.

        They go by the names of the classes. Where one side only numbers them, and there are as many, they go by order.
        Where both number them, they go by order if there are as many or if they share no number.
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
        return by_name, "" if by_name else f"those of the weights are others: {_listed(labels.readable(theirs))}"


def hints(classes: tuple[str, ...], theirs: tuple[str, ...]) -> list[str]:
    """Of classes that are taken over from no output, what the weights have under almost that name, in words."""
    shown = labels.readable(theirs)
    said = []
    for name, outputs in zip(classes, labels.match(classes, theirs), strict=True):
        if len(outputs) > 1:
            said.append(f"{name!r} may be {' or '.join(repr(shown[output]) for output in outputs)}: name it so")
        elif not outputs and (close := labels.close_to(name, theirs)):
            said.append(f"{name!r} is almost {close[0]!r}")
    return said


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def _numbers(classes: tuple[str, ...]) -> list[int] | None:
    """Each class's number from 0 on, if they are numbered from 0 or 1, as they are where nobody knows their names."""
    numbers = [int(name) for name in classes if name.isdecimal() and len(name) < 10]
    first = min(numbers, default=0)
    if first > 1 or sorted(numbers) != list(range(first, first + len(classes))):
        return None
    return [number - first for number in numbers]


def _by_name(classes: tuple[str, ...], theirs: tuple[str, ...]) -> dict[int, int]:
    """From output to output of the classes that both know, by `labels.match`; those that are ambiguous start anew."""
    matched = labels.match(classes, theirs)
    outputs: dict[int, int] = {}
    # Who is spelled alike comes first where two could have an output.
    for here in sorted(range(len(classes)), key=lambda index: classes[index] not in theirs):
        found = matched[here]
        if len(found) == 1 and found[0] not in outputs.values():
            outputs[here] = found[0]
    return outputs


def load(path: Path) -> Origin:
    """The network of a run folder, a .keras file or published weights (a file, or a name).

    Raises:
        InputError: it cannot be read, or is not a SqueezeNet of this package.
    """
    model, card = inference.load_keras(path)
    network, channel_means, channel_deviations = models.describe(model, card.preprocessing.image_size)
    arrays = {(layer.name, each.name): np.asarray(each) for layer in model.layers for each in layer.variables}
    return Origin(path, network, channel_means, channel_deviations, card, arrays)


def module_of(layer_name: str) -> str:
    """conv1, fire2, ... conv10: the part of the network that a layer belongs to."""
    return layer_name.split("_")[0]


def freeze(model: keras.Model, recipe: Recipe) -> None:
    """Makes the layers before recipe.freeze's module untrainable; their batch norms then keep their statistics, too."""
    if recipe.freeze is None:
        return
    first = MODULES.index(recipe.freeze.removeprefix("until:"))
    for layer in model.layers:
        module = module_of(layer.name)
        if module in MODULES and MODULES.index(module) < first:
            layer.trainable = False


def rate_scales(model: keras.Model, recipe: Recipe) -> list[float]:
    """What the learning rate is multiplied by for each trainable variable: 1 in conv10, less before it.

    Layer-wise rates as in Howard and Ruder 2018 (arXiv 1801.06146, section 3.2), a fire module being a layer.
    """
    module = {variable.path: module_of(layer.name) for layer in model.layers for variable in layer.variables}
    last = len(MODULES) - 1
    return [recipe.layer_decay ** (last - MODULES.index(module[each.path])) for each in model.trainable_variables]
