"""Defines the dataclass of all hyper-parameters. A recipe, the data and the machines determine a training."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from sqznet.core import typed
from sqznet.core.errors import InputError
from sqznet.images.preprocessing import INTERPOLATIONS, RESIZES, Preprocessing, check_choice
from sqznet.network.architecture import MODULES

ARCHS = ("v1.0", "v1.1")
ACTIVATIONS = ("relu", "elu")
BYPASSES = ("none", "simple", "complex")
CROPS = ("window", "resized")
OPTIMIZERS = ("sgd", "nesterov", "adamw")
FREEZES = tuple(f"until:{module}" for module in MODULES[1:])
SCHEDULES = ("step", "linear", "cosine")
STRONGEST = 10.0  # strength at which RandAugment's operations reach their limits
CLASS_WEIGHTS = ("none", "balanced", "effective")
SAMPLINGS = ("natural", "balanced")
BESTS = ("top1", "balanced_accuracy", "macro_f1", "loss")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
NETWORK_FIELDS = ("arch", "activation", "batch_norm", "bypass", "conv10_padding")  # fixed by the weights of a network

# Ranges of fields: the words of the message, and the test.
Range = tuple[str, Callable[[Any], bool]]
_ABOVE_ZERO: Range = ("above 0", lambda value: value > 0)
_POSITIVE: Range = ("1 or more", lambda value: value >= 1)
_NON_NEGATIVE: Range = ("0 or more", lambda value: value >= 0)
_SHARE: Range = ("0 to 1", lambda value: 0 <= value <= 1)
_BELOW_ONE: Range = ("at least 0 and below 1", lambda value: 0 <= value < 1)
_FRACTION: Range = ("above 0 and at most 1", lambda value: 0 < value <= 1)
_STRENGTH: Range = (f"0 to {STRONGEST:g}", lambda value: 0 <= value <= STRONGEST)
_SEED: Range = ("0 or more and below 2 to the power of 32", lambda value: 0 <= value < 2**32)


def _setting(default: Any, help: str, allowed: tuple[str, ...] | Range | None = None) -> Any:
    """Returns a field with its help text and its choices or range."""
    is_range = allowed is not None and callable(allowed[-1])
    return field(
        default=default,
        metadata={"help": help, "choices": None if is_range else allowed, "range": allowed if is_range else None},
    )


@dataclass(frozen=True)
class Recipe:
    """Contains all settings of a training run. `train --help` prints the help text of each field."""

    name: str = _setting("custom", "name of the run in file names and reports")

    # The network.
    arch: str = _setting("v1.0", "SqueezeNet version; v1.1 needs 2.4 times less computation", ARCHS)
    activation: str = _setting("elu", "nonlinearity after every convolution", ACTIVATIONS)
    batch_norm: bool = _setting(False, "batch norm after every convolution; the export folds it into the convolution")
    bypass: str = _setting(
        "none",
        "shortcuts around fire modules (paper, section 6); simple: around fire3, 5, 7, 9; complex: around all, with "
        "1x1 convolutions where shapes differ",
        BYPASSES,
    )
    conv10_padding: int = _setting(0, "zero padding of conv10's input, 0 or 1; the published v1.0 has 1", _SHARE)
    dropout: float = _setting(0.5, "fraction of fire9's activations dropped in training, 0 to below 1", _BELOW_ONE)
    image_size: int = _setting(227, "side of the square input of the network, in pixels")

    # The input.
    resize: str = _setting(
        "short", "before cropping: scale the short side to resize_to, or squash both sides to it", RESIZES
    )
    resize_to: int = _setting(256, "side in pixels to which a photograph is scaled before cropping")
    interpolation: str = _setting("bilinear", "interpolation used to scale photographs", INTERPOLATIONS)
    antialias: bool = _setting(
        True, "low-pass filter when a photograph is scaled down; most phones scale without such a filter"
    )
    crop: str = _setting("window", "training crop; window: at a random place; resized: a random region, resized", CROPS)
    min_crop_area: float = _setting(0.08, "crop=resized: smallest region, as a fraction of the photograph", _FRACTION)
    train_sizes: tuple[tuple[int, int], ...] = _setting(
        (), "progressive resizing, as EPOCH:PIXELS,...: the image size from each epoch (0 first) on; empty: image_size"
    )
    jitter: float = _setting(
        0.0, "brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter", _BELOW_ONE
    )
    randaugment: float = _setting(
        0.0, "strength of RandAugment, two random operations on each crop, 0 to 10; 0 turns it off", _STRENGTH
    )
    erasing: float = _setting(0.0, "random erasing: fraction of crops of which a rectangle is erased, 0 to 1", _SHARE)
    mixup: float = _setting(0.0, "alpha of mixup, which blends pairs of images; 0 turns mixup off", _NON_NEGATIVE)
    cutmix: float = _setting(
        0.0,
        "alpha of CutMix, which pastes part of another image; an image gets CutMix or mixup; 0 turns CutMix off",
        _NON_NEGATIVE,
    )
    sampling: str = _setting(
        "natural",
        "records of an epoch; natural: each once; balanced: the same number of each class, so that records of small "
        "classes come several times",
        SAMPLINGS,
    )
    shuffle_mib: int = _setting(1_024, "size in MiB of the shuffle buffer, which contains encoded records", _POSITIVE)

    # The optimisation.
    epochs: int = _setting(80, "passes over the training split", _POSITIVE)
    total_steps: int | None = _setting(None, "number of updates; replaces epochs", _POSITIVE)
    global_batch_size: int = _setting(128, "images in an update, over all replicas", _POSITIVE)
    optimizer: str = _setting("sgd", "SGD with momentum, SGD with Nesterov momentum, or AdamW", OPTIMIZERS)
    momentum: float = _setting(0.9, "momentum of SGD, or beta_1 of AdamW, 0 to below 1", _BELOW_ONE)
    learning_rate: float = _setting(0.01, "highest learning rate of the schedule", _ABOVE_ZERO)
    schedule: str = _setting("step", "how the learning rate decreases over the run", SCHEDULES)
    warmup_epochs: float = _setting(0.0, "epochs of linear warm-up to learning_rate", _NON_NEGATIVE)
    milestones: tuple[int, ...] = _setting(
        (50, 65, 75), "schedule=step: epochs at which the learning rate is divided by ten"
    )
    weight_decay: float = _setting(
        2e-4,
        "weight decay of kernels, not of biases and norms; an L2 term in the loss, decoupled with adamw",
        _NON_NEGATIVE,
    )
    gradient_clip: float = _setting(0.0, "maximum global norm of the gradients; 0 turns clipping off", _NON_NEGATIVE)
    ema: float = _setting(0.0, "EMA decay of the weights, 0 to below 1; 0 turns averaging off", _BELOW_ONE)
    sparsity: float = _setting(
        0.0,
        "fraction of each kernel's weights (the smallest) that is zero in sparse_epochs; 0 turns it off",
        _BELOW_ONE,
    )
    sparse_epochs: tuple[int, ...] = _setting(
        (), "with sparsity: the first sparse epoch and the first dense epoch after it, as FIRST,END"
    )
    freeze: str | None = _setting(
        None, "until:MODULE does not train the layers before that module (fire2 to fire9, conv10)"
    )
    layer_decay: float = _setting(
        1.0, "learning rate of a module as a fraction of the next module's; conv10 has the full rate", _FRACTION
    )
    distill_weight: float = _setting(
        0.5, "with --teacher: weight of the distillation loss, 0 to 1; the loss of the labels has the rest", _SHARE
    )
    distill_temperature: float = _setting(
        4.0, "with --teacher: temperature that divides the logits of both networks", _ABOVE_ZERO
    )
    label_smoothing: float = _setting(
        0.0, "fraction of the target spread evenly over the classes, 0 to below 1", _BELOW_ONE
    )
    class_weights: str = _setting(
        "none",
        "weight of a record in the loss, by its class; balanced: inverse to the records of the class; effective: "
        "inverse to the effective number of records",
        CLASS_WEIGHTS,
    )
    seed: int = _setting(0, "seed of initial weights, order, crops and dropout", _SEED)
    precision: str = _setting(
        "auto",
        "number format of the convolutions; auto: the shortest format that this machine computes fast",
        PRECISIONS,
    )

    # The end, and the epoch that is kept.
    patience: int = _setting(
        0, "end after this number of epochs without a better val figure (`best`); 0 turns it off", _NON_NEGATIVE
    )
    best: str = _setting("top1", "figure of val that decides which epoch best.keras holds", BESTS)

    # How the training runs. These fields do not change what is computed.
    steps_per_call: int = _setting(10, "updates in one call of the compiled training function", _POSITIVE)
    evaluate_every: int = _setting(
        1, "epochs between evaluations on val; the last epoch is always evaluated", _POSITIVE
    )

    def __post_init__(self) -> None:
        typed.require(vars(self), KINDS, "recipe")
        if not self.name or any(each in "/\\\0" or ord(each) < 32 for each in self.name):
            raise InputError(f"name is {self.name!r}; it must be one that a folder can have")
        for setting in dataclasses.fields(self):
            name, value = setting.name, getattr(self, setting.name)
            if setting.metadata["choices"]:
                check_choice(name, value, setting.metadata["choices"])
            if setting.metadata["range"] and value is not None:
                expected, fits = setting.metadata["range"]
                if not fits(value):
                    raise InputError(f"{name} is {value}; it must be {expected}")
        _ = self.preprocessing  # checks its own fields
        if self.freeze is not None:
            check_choice("freeze", self.freeze, FREEZES)
        if self.optimizer == "adamw" and self.layer_decay < 1:
            raise InputError("layer_decay goes with sgd and nesterov only: AdamW's steps ignore the gradients' scale")
        sparse, milestones, sizes = self.sparse_epochs, self.milestones, self.train_sizes
        if bool(self.sparsity) != bool(sparse):
            raise InputError(f"sparsity is {self.sparsity} and sparse_epochs are {sparse}: one needs the other")
        if sparse and not (len(sparse) == 2 and 0 <= sparse[0] < sparse[1]):
            raise InputError(f"sparse_epochs are {sparse}; they must be two, the first and a later one")
        if any(epoch < 0 for epoch in milestones):
            raise InputError(f"milestones are {milestones}; they must be 0 or more")
        if any(size < 1 for _, size in sizes):
            raise InputError(f"train_sizes are {sizes}; each must have 1 pixel or more")
        starts = [epoch for epoch, _ in sizes]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise InputError(f"train_sizes begin at epochs {starts}; they must begin at 0 and increase")

    @property
    def mixes(self) -> bool:
        """Returns whether mixup or CutMix combines images."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def augments(self) -> bool:
        """Returns whether there is augmentation other than cropping and mirroring."""
        return self.mixes or self.randaugment > 0 or self.jitter > 0 or self.erasing > 0

    @property
    def preprocessing(self) -> Preprocessing:
        """Returns how photographs are scaled and cropped."""
        return Preprocessing(self.image_size, self.resize_to, self.resize, self.interpolation, self.antialias)

    def replace(self, **changes: Any) -> Recipe:
        """Returns a recipe with other values of the given fields.

        Raises:
            InputError: a value has another type or is out of range, or two values contradict each other.
        """
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields with their values, for JSON."""
        return dataclasses.asdict(self)


KINDS: dict[str, Any] = get_type_hints(Recipe)  # of the fields, by name


def check_field(name: str, where: str) -> None:
    """Refuses a name that is not a field of recipes.

    Raises:
        InputError: the name is not a field. The error names the closest field.
    """
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        raise InputError(f"{where}: a recipe has no field {name}" + (f"; is {close[0]} meant?" if close else ""))


def from_dict(fields: dict[str, Any], where: str) -> Recipe:
    """Builds a recipe from parsed JSON. Lists become tuples.

    Raises:
        InputError: a field is unknown, or a value has another type or is out of range. The error names the field.
    """
    for name in fields:
        check_field(name, where)
    typed.require(fields, {name: KINDS[name] for name in fields}, where)
    try:
        return Recipe(**{name: with_tuples(value) for name, value in fields.items()})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def with_tuples(value: Any) -> Any:
    """Returns a value of a field with tuples instead of lists, as JSON and Python users may give them."""
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def parse_train_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Parses the value of a flag: `0:64,20:96` is ((0, 64), (20, 96))."""
    try:
        return tuple((int(a), int(b)) for a, b in (each.split(":") for each in text.split(",") if each))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not EPOCH:PIXELS,..., such as 0:64,20:96") from None


def parse_milestones(text: str) -> tuple[int, ...]:
    """Parses the value of a flag: `50,65,75` is (50, 65, 75)."""
    try:
        return tuple(int(each) for each in text.split(",") if each)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of epochs, such as 50,65,75") from None
