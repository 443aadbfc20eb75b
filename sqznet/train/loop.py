"""Defines the training and the evaluation step for any strategy. A call of the training step does several updates.

Shapes inside a replica: images uint8 (batch, size, size, 3), labels int64 (batch,), logits float32
(batch, classes), where batch is global_batch_size / replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from sqznet.network import sparse as sparse_weights
from sqznet.recipes import Recipe
from sqznet.train import finetune, precision


@dataclass(frozen=True)
class Sums:
    """Sums over examples. `means` divides them once, at the end."""

    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0
    count: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.loss + other.loss, self.top1 + other.top1, self.top5 + other.top5, self.count + other.count)

    def means(self) -> dict[str, float]:
        return {name: getattr(self, name) / max(1.0, self.count) for name in ("loss", "top1", "top5")}


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    if recipe.optimizer == "adamw":
        chosen = keras.optimizers.AdamW(recipe.learning_rate, recipe.weight_decay, beta_1=recipe.momentum)
        chosen.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        nesterov = recipe.optimizer == "nesterov"
        chosen = keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)
    # Gradients below 6e-8 underflow in float16. bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(chosen) if recipe.precision == "float16" else chosen


def make_train_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    recipe: Recipe,
    strategy: tf.distribute.Strategy,
    averaged: keras.Model | None = None,
    counter: tf.Variable | None = None,
    class_weights: np.ndarray | None = None,
) -> Callable[..., tf.Tensor]:
    """Returns a function of (iterator, learning_rates, sparse) that does one update for each learning rate.

    The function returns the `Sums` of each update, float32 (steps, 4). Their loss is the minimised one without weight
    decay: cross-entropy with the recipe's label smoothing, mixed with the distillation loss if there is a teacher, and
    multiplied by the class weights.

    Args:
        averaged: with the recipe's `ema`, the copy of the model that holds the averaged weights.
        counter: each update adds 1 to it, so that another thread can show the progress within a call.
        class_weights: a factor of the loss for each label, float32 (classes,). None means 1. The loss of a mixed image
            is the sum of the losses of both labels, each with its share and the weight of its class.

    The function's arguments: `iterator` yields the batches of `pipeline.training_batches`. In these, the label -1 marks
        a corrupt record, which is ignored. `sparse`, bool (steps,), states for each update whether zero weights stay
        zero.
    """
    scales = finetune.rate_scales(model, recipe)

    kernels = sparse_weights.kernels(model)

    def weighted(losses, labels):
        return losses if class_weights is None else losses * tf.gather(tf.constant(class_weights, tf.float32), labels)

    def replica_step(images, labels, *others):
        weights = tf.cast(labels >= 0, tf.float32)
        labels = tf.maximum(labels, 0)
        with tf.GradientTape() as tape:
            with precision.computing(model, recipe.precision):
                logits = tf.cast(model(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits, recipe.label_smoothing)  # (batch,)
            if recipe.mixes:
                neighbours, shares = others
                neighbours = tf.maximum(neighbours, 0)
                theirs = cross_entropy(neighbours, logits, recipe.label_smoothing)
                losses = shares * weighted(losses, labels) + (1 - shares) * weighted(theirs, neighbours)
            else:
                if others:
                    (probabilities,), share = others, recipe.distill_weight
                    distilled = distillation(probabilities, logits, recipe.distill_temperature)
                    losses = (1 - share) * losses + share * distilled
                losses = weighted(losses, labels)
            losses *= weights
            # Gradients are summed over replicas: divide by the global batch, and count the decay once.
            loss = tf.reduce_sum(losses) / recipe.global_batch_size
            if recipe.weight_decay and recipe.optimizer != "adamw":
                decay = recipe.weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
                loss += decay / strategy.num_replicas_in_sync
            if recipe.precision == "float16":
                loss = optimizer.scale_loss(loss)  # the optimizer unscales the gradients
        gradients = tape.gradient(loss, model.trainable_variables)
        # With SGD, scaling a gradient scales its learning rate.
        gradients = [each if scale == 1 else each * scale for each, scale in zip(gradients, scales, strict=True)]
        if recipe.gradient_clip:
            gradients = clip(gradients, recipe.gradient_clip, getattr(optimizer, "dynamic_scale", 1.0))
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return sums_of(losses, labels, logits, weights)

    @tf.function(reduce_retracing=True)
    def train_steps(iterator, learning_rates, sparse=None):
        steps = tf.shape(learning_rates)[0]
        sums = tf.TensorArray(tf.float32, size=steps, element_shape=[4])
        for step in tf.range(steps):
            optimizer.learning_rate.assign(learning_rates[step])
            alive = sparse_weights.nonzero_masks(model) if recipe.sparsity else []
            parts = strategy.run(replica_step, args=next(iterator))
            if recipe.sparsity:
                sparse_weights.apply_masks(model, alive, sparse[step])
            if averaged is not None:
                average(averaged, model, recipe.ema, optimizer.iterations)
            total = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            sums = sums.write(step, total)
            if counter is not None:
                with tf.control_dependencies([total]):  # else TensorFlow may count before the update
                    counter.assign_add(1)
        return sums.stack()

    return train_steps


def clip(gradients: list[tf.Tensor], max_norm: float, scale: tf.Tensor | float) -> list[tf.Tensor]:
    """Clips gradients, summed over replicas, by their global norm (Pascanu et al. 2013, arXiv 1211.5063, section 3.2).

    Each replica calls this function with its own gradients. `scale` is the loss scale that the gradients were
    multiplied by.
    """
    replica = tf.distribute.get_replica_context()
    norm = tf.linalg.global_norm(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)) / scale
    return [each * max_norm / tf.maximum(norm, max_norm) for each in gradients]


def average(averaged: keras.Model, model: keras.Model, decay: float, steps: tf.Tensor) -> None:
    """Updates the exponential moving average of each floating-point variable after update number `steps`.

    In the first updates the decay is at most (1 + steps) / (10 + steps), as in TensorFlow's ExponentialMovingAverage,
    so that the initial random weights lose their influence soon.
    """
    steps = tf.cast(steps, tf.float32)
    decay = tf.minimum(decay, (1 + steps) / (10 + steps))
    for mean, variable in zip(averaged.variables, model.variables, strict=True):
        if variable.dtype == "float32":
            mean.assign(decay * mean + (1 - decay) * variable)


def make_eval_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[..., tf.Tensor]:
    """Returns a function from one distributed batch (images, labels, weights) to its sums.

    The function returns the batch's `Sums`, float32 (4,), and its `counts_by_class`, float32 (3, classes).
    """

    def replica_step(images, labels, weights):
        logits = model(images, training=False)
        sums = sums_of(cross_entropy(labels, logits) * weights, labels, logits, weights)
        return sums, counts_by_class(labels, logits, weights)

    @tf.function(reduce_retracing=True)
    def eval_step(batch):
        sums = strategy.run(replica_step, args=batch)
        return [strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None) for each in sums]

    return eval_step


def make_total(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a float32 tensor to its sum over all replicas. All workers must call this function."""

    @tf.function
    def total(value):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(value,)), axis=None)

    return total


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Computes the softmax cross-entropy of each example, (batch,). Smooths as in Szegedy et al. 2015, section 7."""
    if not label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    classes = logits.shape[-1]
    targets = tf.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def distillation(teacher: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Computes the distillation loss of each example, (batch,): 0 where student and teacher agree.

    The loss is the Kullback-Leibler divergence at `temperature`, times the square of the temperature. This factor keeps
    the gradients as large as those of the labels (Hinton et al. 2015, arXiv 1503.02531, section 2).

    Args:
        teacher: probabilities, (batch, classes). Their logarithms are logits up to a constant that softmax ignores.
        logits: logits of the student, (batch, classes).
    """
    wanted = tf.nn.log_softmax(tf.math.log(tf.maximum(teacher, 1e-10)) / temperature)
    given = tf.nn.log_softmax(logits / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=1)


def sums_of(losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns [loss, top-1 hits, top-5 hits, examples], float32 (4,). Examples of weight 0 are not counted.

    As in `metrics.rank_of_label`, the first of equal logits ranks first. ReLU makes many logits equal, at 0.
    """
    own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]  # (batch, 1)
    earlier = tf.range(tf.shape(logits, labels.dtype)[1])[None] < labels[:, None]
    ahead = tf.math.count_nonzero((logits > own) | ((logits == own) & earlier), axis=1)  # (batch,), 0 for the first
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)

    def hits(k: int) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(finite & (ahead < k), tf.float32) * weights)

    return tf.stack([tf.reduce_sum(losses), hits(1), hits(5), tf.reduce_sum(weights)])


def counts_by_class(labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns [top-1 hits, examples, predictions] of each class, float32 (3, classes).

    Examples of weight 0 are not counted. Logits that are not finite predict no class.
    """
    classes = logits.shape[-1]
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)
    predicted = tf.where(finite, tf.argmax(logits, axis=1, output_type=labels.dtype), -1)

    def count(of: tf.Tensor) -> tf.Tensor:  # a negative class is not counted
        return tf.math.unsorted_segment_sum(weights, of, classes)

    return tf.stack([count(tf.where(predicted == labels, labels, -1)), count(labels), count(predicted)])
