"""Epochs to steps and steps to learning rates. Pure Python: no TensorFlow, no state.

A step is one update of the weights from one global batch. An epoch is `records // global_batch_size` steps:
the records left over sit out this epoch; since each epoch is shuffled anew, they differ from epoch to epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqznet.errors import InputError
from sqznet.recipes import Recipe


@dataclass(frozen=True)
class Schedule:
    """The steps of a run, and the learning rate at each."""

    recipe: Recipe
    steps_per_epoch: int
    total_steps: int

    @property
    def epochs(self) -> int:
        return math.ceil(self.total_steps / self.steps_per_epoch)

    def epoch_end(self, epoch: int) -> int:
        """The step at which the epoch (0 first) is over."""
        return min((epoch + 1) * self.steps_per_epoch, self.total_steps)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the update numbered `step`, 0 first."""
        recipe = self.recipe
        warmup = recipe.warmup_epochs * self.steps_per_epoch
        if step < warmup:
            return recipe.learning_rate * (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1.0, self.total_steps - warmup)  # 0 to below 1
        if recipe.schedule == "linear":
            return recipe.learning_rate * (1 - progress)
        if recipe.schedule == "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        assert recipe.schedule == "step"
        passed = sum(step >= milestone * self.steps_per_epoch for milestone in recipe.milestones)
        return recipe.learning_rate / 10**passed

    def image_size(self, epoch: int) -> int:
        """The side of the training images in that epoch (0 first), in pixels."""
        size = self.recipe.image_size
        for first_epoch, pixels in self.recipe.train_sizes:
            if epoch >= first_epoch:
                size = pixels
        return size


def plan(recipe: Recipe, records: int) -> Schedule:
    """The schedule of a recipe on a training split of `records` records.

    Raises:
        InputError: the split does not fill one batch.
    """
    steps_per_epoch = records // recipe.global_batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"the training split has {records} records, fewer than one global batch of {recipe.global_batch_size}: "
            "lower --global_batch_size or add photographs"
        )
    return Schedule(recipe, steps_per_epoch, recipe.total_steps or recipe.epochs * steps_per_epoch)
