"""Every hyper-parameter, once: a frozen dataclass and the named recipes made from it.

A recipe holds all that decides what a training run computes, except the data and the machines.
`python -m sqznet.train --recipe=NAME --learning_rate=0.02` takes a named recipe and overrides one field of it;
the result is stored in the run's config.json, and `--recipe=RUN/config.json` takes it from there again.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
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
STRONGEST = 10.0  # strength of RandAugment that reaches the limits of its operations
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


NETWORK_FIELDS = ("arch", "activation", "batch_norm", "bypass", "conv10_padding")  # of a recipe, that weights go with


def _setting(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run; each field's help text is what `train --help` prints."""

    name: str = _setting("custom", "what the run is called in file names and reports")

    # The network.
    arch: str = _setting("v1.0", "SqueezeNet version; v1.1 does the same in 2.4 times less work", ARCHS)
    activation: str = _setting("elu", "nonlinearity after every convolution", ACTIVATIONS)
    batch_norm: bool = _setting(False, "batch norm after every convolution; folded away at export")
    bypass: str = _setting(
        "none",
        "shortcuts around fire modules (paper, section 6): simple around fire3, 5, 7, 9; complex around all, with 1x1 "
        "convolutions where shapes differ",
        BYPASSES,
    )
    conv10_padding: int = _setting(0, "rim of zeros around conv10's input, 0 or 1; the published v1.0 has 1")
    dropout: float = _setting(0.5, "fraction of fire9's activations dropped in training, 0 to below 1")
    image_size: int = _setting(227, "side of the square the network sees, in pixels")

    # The input.
    resize: str = _setting(
        "short", "before cropping: scale the short side to resize_to, or squash both sides to it", RESIZES
    )
    resize_to: int = _setting(256, "side a photograph is scaled to before cropping, in pixels")
    interpolation: str = _setting("bilinear", "how photographs are scaled", INTERPOLATIONS)
    antialias: bool = _setting(
        True,
        "average the pixels that fall together when a photograph is scaled down; most phones' own scaling does not",
    )
    crop: str = _setting("window", "training crop: a window moved about, or a resized random region", CROPS)
    min_crop_area: float = _setting(0.08, "crop=resized: smallest region, as a fraction of the photograph")
    train_sizes: tuple[tuple[int, int], ...] = _setting(
        (), "train smaller first, as EPOCH:PIXELS,...: from that epoch (0 first) on, that size; empty: image_size"
    )
    jitter: float = _setting(
        0.0, "brightness, contrast and saturation of a crop, each times 1 less this to 1 plus this, 0 to below 1"
    )
    randaugment: float = _setting(
        0.0, "strength, 0 to 10, of two operations drawn for each crop: turned, shifted, other tones ...; 0: none"
    )
    erasing: float = _setting(0.0, "share of crops of which a rectangle is erased, 0 to 1")
    mixup: float = _setting(0.0, "alpha of mixup: images are blended in pairs, and so are their labels; 0: not")
    cutmix: float = _setting(
        0.0, "alpha of CutMix: a part of an image is its neighbour's; with mixup, one or the other"
    )
    shuffle_mib: int = _setting(1_024, "memory for records, encoded, to shuffle among, in MiB")

    # The optimisation.
    epochs: int = _setting(80, "passes over the training split")
    total_steps: int | None = _setting(None, "updates in all, instead of epochs")
    global_batch_size: int = _setting(128, "images an update, over all replicas")
    optimizer: str = _setting("sgd", "SGD with classical or with Nesterov momentum, or AdamW", OPTIMIZERS)
    momentum: float = _setting(0.9, "momentum of SGD, or AdamW's first, 0 to below 1")
    learning_rate: float = _setting(0.01, "highest learning rate of the schedule")
    schedule: str = _setting("step", "how the learning rate falls over the run", SCHEDULES)
    warmup_epochs: float = _setting(0.0, "epochs of linear rise to learning_rate")
    milestones: tuple[int, ...] = _setting((50, 65, 75), "schedule=step: epochs at which it is divided by ten")
    weight_decay: float = _setting(
        2e-4, "of convolution kernels (not of biases or norms): L2, added to the loss; decoupled from it with adamw"
    )
    gradient_clip: float = _setting(0.0, "longest gradient, of all weights together; longer ones are scaled; 0: any")
    ema: float = _setting(
        0.0, "evaluate and keep an average of the weights that holds on to this share of itself each step; 0: none"
    )
    sparsity: float = _setting(
        0.0, "share of each kernel's weights, the smallest, that is held at zero in the sparse_epochs; 0: none"
    )
    sparse_epochs: tuple[int, ...] = _setting(
        (), "with sparsity: the first of these epochs, and the one after the last, as FIRST,END"
    )
    freeze: str | None = _setting(
        None, "until:MODULE keeps what comes before that module (fire2 to fire9, conv10) as it was loaded"
    )
    layer_decay: float = _setting(
        1.0, "learning rate of each module as a fraction of that of the next, above 0 to 1; conv10 has all of it"
    )
    distill_weight: float = _setting(
        0.5, "with --teacher: share of the teacher in the loss, 0 to 1; the rest is labels"
    )
    distill_temperature: float = _setting(4.0, "with --teacher: both networks' logits are divided by it")
    label_smoothing: float = _setting(0.0, "share of the target spread evenly over the classes, 0 to below 1")
    seed: int = _setting(0, "decides initial weights, order, crops and dropout")

    precision: str = _setting(
        "auto", "of a training step's convolutions; auto: the fewest bits that this machine has units for", PRECISIONS
    )

    # How it runs; does not change what is computed.
    steps_per_call: int = _setting(10, "updates done before control returns to Python")
    evaluate_every: int = _setting(1, "epochs from one evaluation on val to the next; the last epoch always has one")

    def __post_init__(self) -> None:
        typed.require(vars(self), get_type_hints(Recipe), "recipe")
        if not self.name or any(each in "/\\\0" or ord(each) < 32 for each in self.name):
            raise InputError(f"name is {self.name!r}; it must be one that a folder can have")
        for setting in dataclasses.fields(self):
            choices, value = setting.metadata["choices"], getattr(self, setting.name)
            if choices:
                check_choice(setting.name, value, choices)
        _ = self.preprocessing  # checks its own
        for name in ("epochs", "global_batch_size", "steps_per_call", "evaluate_every", "shuffle_mib"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("dropout", "momentum", "label_smoothing", "jitter", "ema", "sparsity"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.freeze is not None and self.freeze not in FREEZES:
            raise InputError(f"freeze is {self.freeze!r}; it must be one of {', '.join(FREEZES)}")
        for name in ("layer_decay", "min_crop_area"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        for name in ("distill_weight", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 to 1")
        if not 0 <= self.randaugment <= STRONGEST:
            raise InputError(f"randaugment is {self.randaugment}; it must be 0 to {STRONGEST:g}")
        for name in ("learning_rate", "distill_temperature"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.conv10_padding not in (0, 1):
            raise InputError(f"conv10_padding is {self.conv10_padding}; it must be 0 or 1")
        for name in ("weight_decay", "warmup_epochs", "seed", "mixup", "cutmix", "gradient_clip"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.seed >= 2**32:
            raise InputError(f"seed is {self.seed}; it must be below 2 to the power of 32")
        if self.optimizer == "adamw" and self.layer_decay < 1:
            raise InputError("layer_decay goes with sgd and nesterov: AdamW's steps are as long for smaller gradients")
        if self.total_steps is not None and self.total_steps < 1:
            raise InputError(f"total_steps is {self.total_steps}; it must be 1 or more")
        if bool(self.sparsity) != bool(self.sparse_epochs):
            raise InputError(
                f"sparsity is {self.sparsity} and sparse_epochs are {self.sparse_epochs}: one needs the other"
            )
        if self.sparse_epochs and not (
            len(self.sparse_epochs) == 2 and 0 <= self.sparse_epochs[0] < self.sparse_epochs[1]
        ):
            raise InputError(f"sparse_epochs are {self.sparse_epochs}; they must be two, the first and a later one")
        if any(epoch < 0 for epoch in self.milestones):
            raise InputError(f"milestones are {self.milestones}; they must be 0 or more")
        if any(size < 1 for _, size in self.train_sizes):
            raise InputError(f"train_sizes are {self.train_sizes}; each must have 1 pixel or more")
        starts = [epoch for epoch, _ in self.train_sizes]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise InputError(f"train_sizes begin at epochs {starts}; they must begin at 0 and rise")

    @property
    def mixes(self) -> bool:
        """Whether an image may be made of two."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def augments(self) -> bool:
        """Whether crops are changed beside being cut and mirrored."""
        return self.mixes or self.randaugment > 0 or self.jitter > 0 or self.erasing > 0

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.image_size, self.resize_to, self.resize, self.interpolation, self.antialias)

    def replace(self, **changes: Any) -> Recipe:
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


ARTICLE = Recipe(name="article")
"""The article's run (see its figures in the README): ELU, SGD 1e-2 divided by ten at 50, 65 and 75 of 80 epochs."""

PAPER = Recipe(
    name="paper",
    activation="relu",
    conv10_padding=1,
    total_steps=170_000,  # 70.7 epochs of ILSVRC's 1,281,167 training images less 50 of each class
    global_batch_size=512,
    learning_rate=0.04,
    schedule="linear",
)
"""The paper's released solver: ReLU, 0.04 falling linearly to 0 over 170,000 steps of 512 images."""

IMAGENETTE = Recipe(
    name="imagenette",
    arch="v1.1",
    activation="relu",
    batch_norm=True,
    bypass="simple",
    dropout=0.2,
    image_size=112,
    resize_to=112,
    crop="resized",
    min_crop_area=0.35,
    # Cheap epochs first. Random regions make objects look larger than they do in evaluation, so the network does
    # best on images a little larger than those it was trained on (Touvron et al. 2019, arXiv 1906.06423).
    train_sizes=((0, 64), (14, 96)),
    epochs=32,
    global_batch_size=64,
    optimizer="nesterov",
    learning_rate=0.1,
    schedule="cosine",
    warmup_epochs=5,
    weight_decay=5e-4,
    label_smoothing=0.1,
    precision="float32",  # with batch norm, which needs it, fewer bits gain a tenth at most
)
"""Ten classes from scratch in minutes on two processor cores; BUILD_NOTES.md has what was compared, and what not."""

IMAGENETTE_LONG = IMAGENETTE.replace(
    name="imagenette-long",
    bypass="complex",
    image_size=144,
    resize_to=144,
    # In so many epochs the same photographs are seen often enough to be learnt by heart.
    min_crop_area=0.25,
    jitter=0.2,
    ema=0.999,
    train_sizes=((0, 64), (46, 96), (86, 128)),
    epochs=110,
    evaluate_every=10,  # evaluations at 144 px are dear beside epochs at 64
)
"""`imagenette` three and a half times as long, on larger images, with all shortcuts; BUILD_NOTES.md has its figures."""

MODERN = Recipe(
    name="modern",
    arch="v1.1",
    activation="relu",
    batch_norm=True,
    bypass="simple",
    dropout=0.2,
    image_size=224,
    resize_to=224,
    crop="resized",
    min_crop_area=0.25,
    train_sizes=((0, 128), (80, 160), (160, 176)),
    epochs=240,
    global_batch_size=1_024,
    optimizer="nesterov",
    learning_rate=0.8,
    schedule="cosine",
    warmup_epochs=5,
    weight_decay=4e-5,
    label_smoothing=0.1,
    mixup=0.1,
    ema=0.9999,
    evaluate_every=5,
)
"""ImageNet as it is trained now, composed from what others have measured. It has not been run here.

Gains are of top-1 on ImageNet's validation set. Those of regularisation were measured on ResNet-50, which has twenty
times the parameters: a SqueezeNet learns less by heart, so expect less of them, and mixup is therefore weak here.

- simple bypass: 57.5 to 60.4 (SqueezeNet v1.0; Iandola et al. 2016, section 6).
- batch norm bears a learning rate ten times the article's; no ablation on SqueezeNet is published, and none was
  made here.
- batches of 1,024, a rate in proportion (0.1 for 128) and a linear warm-up: no loss up to 8,192 (Goyal et al. 2017).
- cosine, label smoothing and mixup, with a tweaked network and distillation: 75.3 to 79.3 (He et al. 2018, table 1).
- long training, EMA, weaker weight decay and smaller training than evaluation images, with stronger augmentation than
  here: 76.1 to 80.7 (torchvision's ResNet-50 recipe, 2021).
- smaller images first save about half of the work (224 px throughout, against 128, 160 and 176 for a third each).

For comparison, the best published top-1 of the same size: 60.9 (v1.1, tf2cv), 61.8 (v1.0, dense-sparse-dense).
"""

DSD = Recipe(
    name="dsd",
    arch="v1.1",
    activation="relu",
    image_size=224,
    resize_to=224,
    crop="resized",
    min_crop_area=0.35,
    epochs=20,
    sparsity=0.3,
    sparse_epochs=(0, 10),
    optimizer="nesterov",
    learning_rate=2e-3,
    schedule="step",
    milestones=(10,),
)
"""Dense-sparse-dense, from the end of a dense training (Han et al. 2016, arXiv 1607.04381); with --init_weights.

Three tenths of each kernel are held at zero for ten epochs, then freed, at a tenth of the rate, as there. Published for
SqueezeNet v1.0 on ImageNet: 57.5 to 61.8 % top-1. Sizes, rates and network follow the weights that it starts from where
flags say so; no run of it on ImageNet has been made here.
"""

DEMO = IMAGENETTE.replace(
    name="demo",
    dropout=0.1,
    # Random crops enlarge the objects, and small images cost less.
    image_size=80,
    resize_to=80,
    train_sizes=((0, 48), (12, 64)),
    epochs=20,
    global_batch_size=32,
    learning_rate=0.05,
    warmup_epochs=2,
    evaluate_every=4,
)
"""`imagenette` cut down for the synthetic demo set. docs/results.md has its figures."""

FINETUNE = Recipe(
    name="finetune",
    arch="v1.1",
    activation="relu",
    image_size=224,
    resize_to=224,
    crop="resized",
    min_crop_area=0.35,
    epochs=4,
    global_batch_size=64,
    optimizer="nesterov",
    # Without batch norm, little is enough: starting from known classes, 5e-3 ended lower than 1e-3 and 2e-3.
    learning_rate=2e-3,
    schedule="cosine",
    warmup_epochs=0.3,
    weight_decay=2e-4,
    freeze="until:fire6",
    layer_decay=0.4,
)
"""Published weights to your own photographs in minutes; with --init_weights. BUILD_NOTES.md has what was compared."""

RECIPES = {recipe.name: recipe for recipe in (ARTICLE, PAPER, MODERN, IMAGENETTE, IMAGENETTE_LONG, DEMO, FINETUNE, DSD)}


def path_of(name: str) -> str:
    """A recipe's name or file as `load` takes it; a run's folder stands for its config.json."""
    return str(Path(name) / "config.json") if name not in RECIPES and Path(name).is_dir() else name


def load(name: str) -> Recipe:
    """The recipe of that name, or the one in a run's config.json or a plain JSON file of fields.

    Raises:
        InputError: no such name or file, or a field that recipes do not have.
    """
    if name in RECIPES:
        return RECIPES[name]
    path = Path(path_of(name))
    if path.suffix != ".json":
        close = difflib.get_close_matches(name, RECIPES, n=1)
        raise InputError(
            f"no recipe {name!r}; there are {', '.join(RECIPES)}, or give the path of a .json file or of a run's folder"
            + (f". Is {close[0]} meant?" if close else "")
        )
    content = typed.read_json(path)
    if "recipe" in content:  # a run's config.json, a search's best.json
        typed.require(content, {"recipe": dict}, str(path))
    return from_dict(content.get("recipe", content), where=str(path))


def from_dict(fields: dict[str, Any], where: str) -> Recipe:
    """A recipe from parsed JSON; lists become tuples.

    Raises:
        InputError: a field that recipes do not have, or a value of another type or out of range; names it.
    """
    kinds = get_type_hints(Recipe)
    for name in fields:
        if name not in kinds:
            close = difflib.get_close_matches(name, kinds, n=1)
            raise InputError(f"{where}: a recipe has no field {name}" + (f"; is {close[0]} meant?" if close else ""))
    typed.require(fields, {name: kinds[name] for name in fields}, where)
    values: dict[str, Any] = {
        name: tuple(tuple(each) if isinstance(each, list) else each for each in value)
        if isinstance(value, list)
        else value
        for name, value in fields.items()
    }
    try:
        return Recipe(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def parse_train_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`0:64,20:96` to ((0, 64), (20, 96)).

    Raises:
        argparse.ArgumentTypeError: it is not of that form.
    """
    try:
        return tuple((int(a), int(b)) for a, b in (each.split(":") for each in text.split(",") if each))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not EPOCH:PIXELS,..., such as 0:64,20:96") from None


def parse_milestones(text: str) -> tuple[int, ...]:
    """`50,65,75` to (50, 65, 75).

    Raises:
        argparse.ArgumentTypeError: it is not of that form.
    """
    try:
        return tuple(int(each) for each in text.split(",") if each)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of epochs, such as 50,65,75") from None
