"""Starting from a trained network: which weights are taken over, which stay as they are, how fast the others move."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet import inference
from sqznet import model as models
from sqznet.errors import InputError
from sqznet.keras_file import Card
from sqznet.model import MODULES, Channels, Network
from sqznet.recipes import NETWORK_FIELDS, Recipe

if TYPE_CHECKING:
    import keras


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

        conv10 has an output for each class. Those of classes that both know, by name, are taken over, the others start
        anew; where there are as many classes and no name is shared, conv10 is taken as it is.

        Raises:
            InputError: the model has a layer that these weights are not for; names the first.
        """
        outputs = self._known_outputs(classes)
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

    def _known_outputs(self, classes: tuple[str, ...]) -> dict[int, int]:
        """From output of the new network to output of these weights."""
        there = {name: output for output, name in enumerate(self.card.classes or ())}
        outputs = {here: there[name] for here, name in enumerate(classes) if name in there}
        if not outputs and len(classes) == self.network.classes:
            return {output: output for output in range(len(classes))}
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
