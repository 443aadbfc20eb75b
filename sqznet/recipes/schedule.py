"""Converts epochs to steps, and steps to learning rates.

A step is one update of the weights from one global batch. A batch may contain the last records of one epoch and the
first records of the next. Therefore each epoch visits every record exactly once, and every batch is full. Records of
one more epoch fill the last batch of a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.recipes import Recipe


@dataclass(frozen=True)
class Schedule:
    """Contains the number of steps of a run, and the learning rate of each step."""

    recipe: Recipe
    records: int
    total_steps: int

    @property
    def epochs(self) -> int:
        return self.epoch_of(self.total_steps - 1) + 1

    def epoch_of(self, step: int) -> int:
        """Returns the epoch (0 first) of the first record of a step."""
        return epoch_of(step, self.recipe.global_batch_size, self.records)

    def epoch_start(self, epoch: int) -> int:
        """Returns the first step of an epoch (0 first): the first record of this step belongs to the epoch."""
        return math.ceil(epoch * self.records / self.recipe.global_batch_size)

    def epoch_end(self, epoch: int) -> int:
        """Returns the first step after the epoch (0 first)."""
        return min(self.epoch_start(epoch + 1), self.total_steps)

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step (0 first)."""
        recipe = self.recipe
        steps_per_epoch = self.records / recipe.global_batch_size
        warmup = recipe.warmup_epochs * steps_per_epoch
        if step < warmup:
            return recipe.learning_rate * (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1.0, self.total_steps - warmup)  # 0 to below 1
        if recipe.schedule == "linear":
            return recipe.learning_rate * (1 - progress)
        if recipe.schedule == "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        assert recipe.schedule == "step"
        passed = sum(step >= self.epoch_start(milestone) for milestone in recipe.milestones)
        return recipe.learning_rate / 10**passed

    def is_sparse(self, step: int) -> bool:
        """Returns whether the sparsity masks apply in a step (0 first)."""
        first, end = self.recipe.sparse_epochs or (0, 0)
        return self.epoch_start(first) <= step < self.epoch_start(end)

    def image_size(self, epoch: int) -> int:
        """Returns the side of the training images in an epoch (0 first), in pixels."""
        size = self.recipe.image_size
        for first_epoch, pixels in self.recipe.train_sizes:
            if epoch >= first_epoch:
                size = pixels
        return size


def epoch_of(step: int, global_batch_size: int, records: int) -> int:
    """Returns the epoch (0 first) of the first record of a step, with `records` records in the training split."""
    return step * global_batch_size // records


def plan(recipe: Recipe, records: int) -> Schedule:
    """Returns the schedule of a recipe on a training split of `records` records.

    Raises:
        InputError: the split is smaller than one batch.
    """
    if records < recipe.global_batch_size:
        raise InputError(
            f"the training split has {console.counted(records, 'record')}, fewer than one global batch of "
            f"{recipe.global_batch_size}: lower --global_batch_size (and --replicas, if there are more than records), "
            "or add photographs"
        )
    steps = math.ceil(recipe.epochs * records / recipe.global_batch_size)
    return Schedule(recipe, records, recipe.total_steps or steps)
