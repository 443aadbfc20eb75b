"""Defines the named recipes.

`python -m sqznet.train --recipe=NAME --learning_rate=0.02` takes a named recipe and replaces one field. The run's
config.json stores the result, and `--recipe=RUN/config.json` reads it again.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from sqznet.core import typed
from sqznet.core.errors import InputError
from sqznet.recipes.recipe import Recipe, from_dict

ARTICLE = Recipe(name="article")
"""The recipe of the article: ELU, SGD with 1e-2, divided by ten at epochs 50, 65 and 75 of 80."""

PAPER = Recipe(
    name="paper",
    activation="relu",
    conv10_padding=1,
    total_steps=170_000,  # 70.7 epochs of ILSVRC's 1,281,167 training images without 50 of each class
    global_batch_size=512,
    learning_rate=0.04,
    schedule="linear",
)
"""The solver that the paper's authors released: ReLU, linear decay from 0.04 to 0 over 170,000 steps of 512 images."""

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
    # Small images first, which cost less. Random regions make objects look larger than in evaluation, so accuracy is
    # best on images a little larger than the training images (Touvron et al. 2019, arXiv 1906.06423).
    train_sizes=((0, 64), (14, 96)),
    epochs=32,
    global_batch_size=64,
    optimizer="nesterov",
    learning_rate=0.1,
    schedule="cosine",
    warmup_epochs=5,
    weight_decay=5e-4,
    label_smoothing=0.1,
    precision="float32",  # batch norm needs it, and with batch norm 16 bits save a tenth of the time at most
)
"""Ten classes from scratch in half an hour on two processor cores."""

IMAGENETTE_LONG = IMAGENETTE.replace(
    name="imagenette-long",
    bypass="complex",
    image_size=144,
    resize_to=144,
    # More regularization: 110 epochs are enough to overfit to these photographs.
    min_crop_area=0.25,
    jitter=0.2,
    ema=0.999,
    train_sizes=((0, 64), (46, 96), (86, 128)),
    epochs=110,
    evaluate_every=10,  # an evaluation at 144 px is slow compared with an epoch at 64 px
)
"""`imagenette` with three and a half times the epochs, larger images and complex bypass."""

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
"""Current practice for ImageNet, composed from published results. We have not run it.

Gains are in top-1 on ImageNet's validation set. Those of regularization were measured on ResNet-50, which has twenty
times the parameters. A SqueezeNet overfits less, so expect smaller gains; mixup is therefore weak here.

- simple bypass: 57.5 to 60.4 (SqueezeNet v1.0; Iandola et al. 2016, section 6).
- batch norm allows a learning rate ten times the article's; there is no published ablation on SqueezeNet, and we
  made none.
- batches of 1,024 with a proportional learning rate (0.1 for 128) and linear warm-up: no loss up to 8,192 (Goyal et
  al. 2017).
- cosine, label smoothing and mixup, with a tweaked network and distillation: 75.3 to 79.3 (He et al. 2018, table 1).
- long training, EMA, weaker weight decay and smaller training than evaluation images, with stronger augmentation than
  here: 76.1 to 80.7 (torchvision's ResNet-50 recipe, 2021).
- progressive resizing (128, 160 and 176 px for a third of the epochs each) saves about half of the computation.

For comparison, the best published top-1 of networks of this size: 60.9 (v1.1, tf2cv), 61.8 (v1.0, dense-sparse-dense).
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
"""Dense-sparse-dense training from trained weights (Han et al. 2016, arXiv 1607.04381); with --init_weights.

The smallest 30 % of each kernel's weights stay zero for ten epochs; then all weights train at a tenth of the learning
rate. Published for SqueezeNet v1.0 on ImageNet: 57.5 to 61.8 % top-1. We have not run it on ImageNet.
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
"""`imagenette` with smaller images and fewer epochs, for the synthetic demo set. docs/results.md has its figures."""

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
    # Without batch norm a low rate is better: 5e-3 gave a lower accuracy than 1e-3 and 2e-3.
    learning_rate=2e-3,
    schedule="cosine",
    warmup_epochs=0.3,
    weight_decay=2e-4,
    freeze="until:fire6",
    layer_decay=0.4,
)
"""Fine-tunes published weights to your own photographs in minutes; with --init_weights."""

RECIPES = {recipe.name: recipe for recipe in (ARTICLE, PAPER, MODERN, IMAGENETTE, IMAGENETTE_LONG, DEMO, FINETUNE, DSD)}


def path_of(name: str) -> str:
    """Returns the argument of `load`.

    For the folder of a run, it is the path of config.json, else the name or path itself.
    """
    return str(Path(name) / "config.json") if name not in RECIPES and Path(name).is_dir() else name


def load(name: str) -> Recipe:
    """Returns the recipe of that name, or the recipe in a run's config.json or in a plain JSON file of fields.

    Raises:
        InputError: there is no recipe or file of that name, or a field is unknown or wrong.
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
