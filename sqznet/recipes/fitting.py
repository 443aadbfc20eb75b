"""A recipe for a small set: batches that leave some updates in an epoch, and the learning rate that goes with them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from sqznet import recipes
from sqznet.core import console
from sqznet.recipes import Recipe

LEAST_BATCHES = 6  # in an epoch: of fewer updates, little is learned
SMALLEST_BATCH = 8  # images: of fewer, batch norm knows too little
FIELDS = ("global_batch_size", "learning_rate")  # of a recipe, that are fitted to the set
MANY = 100_000  # training records from which on the article's 80 epochs at 227 px suit a set


def default_recipe(records: int, has_weights: bool) -> str:
    """The recipe of a training without --recipe, on a training split of so many records."""
    if has_weights:
        return recipes.FINETUNE.name
    return (recipes.ARTICLE if records >= MANY else recipes.IMAGENETTE).name


def fitted(recipe: Recipe, records: int, replicas: int, chosen: Container[str]) -> Recipe:
    """The recipe with batches that suit a training split of so many records.

    A batch is halved until an epoch has LEAST_BATCHES of them, down to SMALLEST_BATCH images or all that there are. The
    learning rate of SGD falls in proportion (Goyal et al. 2017, arXiv 1706.02677); the warm-up is counted in epochs and
    stays. The result depends on nothing else, so that all workers find the same.

    Args:
        chosen: fields that the user has set, which stay.
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
    """Returns `fitted`, and prints what it has changed."""
    after = fitted(recipe, records, replicas, chosen)
    if after != recipe:
        rate = f", and a learning rate of {after.learning_rate:.4g} in place of {recipe.learning_rate:.4g}"
        console.say(
            f"fitted to {console.counted(records, 'training record')}: batches of {after.global_batch_size} in place "
            f"of {recipe.global_batch_size}{rate if after.learning_rate != recipe.learning_rate else ''} "
            "(--global_batch_size and --learning_rate set others)"
        )
    return after


def searchable(space: dict[str, Any], records: int) -> dict[str, Any]:
    """A space of settings without the batches that a training split of so many records does not fill."""
    sizes = space.get("global_batch_size")
    if sizes is None or max(sizes) <= records:
        return space
    kept = [size for size in sizes if size <= records]
    console.say(
        f"{console.counted(records, 'training record')}: batches of {', '.join(map(str, kept)) or 'the fitted size'} "
        f"are tried, not of {', '.join(str(size) for size in sizes if size > records)}"
    )
    others = {name: values for name, values in space.items() if name != "global_batch_size"}
    return {**others, "global_batch_size": kept} if len(kept) > 1 else others
