"""Adapts a recipe to a small training split.

Reduces the batch size, so that an epoch has enough updates, and the learning rate.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sqznet import recipes
from sqznet.core import console
from sqznet.recipes import Recipe

LEAST_BATCHES = 6  # in an epoch; fewer updates train too little
SMALLEST_BATCH = 8  # images: on fewer images, batch norm estimates its statistics badly
FIELDS = ("global_batch_size", "learning_rate")  # of a recipe, that `fitted` changes
MANY = 100_000  # training records; from this number on, the article's recipe is the default


def default_recipe(records: int, has_weights: bool) -> str:
    """Returns the name of the recipe for a training without --recipe. `records` is the size of the training split."""
    if has_weights:
        return recipes.FINETUNE.name
    return (recipes.ARTICLE if records >= MANY else recipes.IMAGENETTE).name


def fitted(recipe: Recipe, records: int, replicas: int, chosen: Container[str]) -> Recipe:
    """Returns the recipe with a batch size that suits a training split of `records` records.

    The batch size is halved until an epoch has LEAST_BATCHES batches, but not below SMALLEST_BATCH. The learning rate
    of SGD is scaled in proportion (Goyal et al. 2017, arXiv 1706.02677). The number of warm-up epochs does not change.
    The result depends only on the arguments. Therefore all workers compute the same recipe.

    Args:
        chosen: fields that the user has set. These fields do not change.
    """
    wanted = recipe.global_batch_size
    if "global_batch_size" in chosen:
        return recipe
    batch = wanted
    while batch > SMALLEST_BATCH and batch * LEAST_BATCHES > records:
        batch //= 2
    batch = min(batch, records)
    batch = max(batch - batch % replicas, replicas)
    if batch >= wanted:
        return recipe
    rate = recipe.learning_rate
    if "learning_rate" not in chosen and recipe.optimizer != "adamw":
        rate *= batch / wanted
    return recipe.replace(global_batch_size=batch, learning_rate=rate)


def fit(recipe: Recipe, records: int, replicas: int, chosen: Container[str]) -> Recipe:
    """Returns the result of `fitted`, and prints the changed fields."""
    after = fitted(recipe, records, replicas, chosen)
    if after != recipe:
        rate = f", and a learning rate of {after.learning_rate:.4g} instead of {recipe.learning_rate:.4g}"
        console.say(
            f"fitted to {console.counted(records, 'training record')}: batches of {after.global_batch_size} instead "
            f"of {recipe.global_batch_size}{rate if after.learning_rate != recipe.learning_rate else ''} "
            "(global_batch_size and learning_rate set others)"
        )
    return after


def searchable(space: dict[str, Any], records: int) -> dict[str, Any]:
    """Returns a search space without batch sizes that exceed the number of training records."""
    sizes = space.get("global_batch_size")
    if sizes is None or max(sizes) <= records:
        return space
    kept = [size for size in sizes if size <= records]
    console.say(
        f"{console.counted(records, 'training record')}: batches of {', '.join(map(str, kept)) or 'the fitted size'} "
        f"are tried, not {', '.join(str(size) for size in sizes if size > records)}"
    )
    others = {name: values for name, values in space.items() if name != "global_batch_size"}
    return {**others, "global_batch_size": kept} if len(kept) > 1 else others
