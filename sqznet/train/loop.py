"""The training and the evaluation step, under any strategy, several steps a call.

Shapes inside a replica: images uint8 (batch, size, size, 3), labels int64 (batch,), logits float32
(batch, classes), where batch is global_batch_size / replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqznet.network import sparse as sparse_weights
from sqznet.recipes import Recipe
from sqznet.train import finetune, precision

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Sums:
    """Sums over the examples seen; means are taken by dividing once, at the end."""

    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0
    count: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.loss + other.loss, self.top1 + other.top1, self.top5 + other.top5, self.count + other.count)

    def means(self) -> dict[str, float]:
        return {name: getattr(self, name) / max(1.0, self.count) for name in ("loss", "top1", "top5")}


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    import keras

    if recipe.optimizer == "adamw":
        chosen = keras.optimizers.AdamW(recipe.learning_rate, recipe.weight_decay, beta_1=recipe.momentum)
        chosen.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:
        nesterov = recipe.optimizer == "nesterov"
        chosen = keras.optimizers.SGD(recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)
    # float16 ends at 6e-8: small gradients would vanish. bfloat16 has the range of float32.
    return keras.optimizers.LossScaleOptimizer(chosen) if recipe.precision == "float16" else chosen


def make_train_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    recipe: Recipe,
    strategy: tf.distribute.Strategy,
    averaged: keras.Model | None = None,
    counter: tf.Variable | None = None,
) -> Callable[..., tf.Tensor]:
    """A function of (iterator, learning_rates, sparse) that does one update for each learning rate.

    Each update adds 1 to `counter`, by which another thread can see how far a call is.

    Where the recipe has a sparsity, `sparse` says for each update whether weights that are zero stay so: bool (steps,).

    The iterator gives what `pipeline.training_batches` does. Where the recipe averages weights, `averaged` is a copy of
    the model that holds the averages. A label of -1 stands for a record that could not be used: it counts for nothing.

    It returns the `Sums` of each step as float32 (steps, 4); the loss in them is what is minimised, without weight
    decay: the cross-entropy, against smoothed labels where the recipe smooths them, or with a teacher the mixture.
    """
    import tensorflow as tf

    scales = finetune.rate_scales(model, recipe)

    kernels = sparse_weights.kernels(model)

    def replica_step(images, labels, *others):
        weights = tf.cast(labels >= 0, tf.float32)
        labels = tf.maximum(labels, 0)
        with tf.GradientTape() as tape:
            with precision.computing(model, recipe.precision):
                logits = tf.cast(model(images, training=True), tf.float32)
            losses = cross_entropy(labels, logits, recipe.label_smoothing)  # (batch,)
            if recipe.mixes:
                neighbours, shares = others
                theirs = cross_entropy(tf.maximum(neighbours, 0), logits, recipe.label_smoothing)
                losses = shares * losses + (1 - shares) * theirs
            elif others:
                (probabilities,), share = others, recipe.distill_weight
                losses = (1 - share) * losses + share * distillation(probabilities, logits, recipe.distill_temperature)
            losses *= weights
            # Gradients are summed over replicas: divide by the global batch, and count the decay once.
            loss = tf.reduce_sum(losses) / recipe.global_batch_size
            if recipe.weight_decay and recipe.optimizer != "adamw":
                decay = recipe.weight_decay * tf.add_n([tf.nn.l2_loss(kernel) for kernel in kernels])
                loss += decay / strategy.num_replicas_in_sync
            if recipe.precision == "float16":
                loss = optimizer.scale_loss(loss)  # the optimizer divides the gradients by it again
        gradients = tape.gradient(loss, model.trainable_variables)
        # To SGD, a gradient scaled is a learning rate scaled.
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
            alive = sparse_weights.alive(model) if recipe.sparsity else []
            parts = strategy.run(replica_step, args=next(iterator))
            if recipe.sparsity:
                sparse_weights.hold(model, alive, sparse[step])
            if averaged is not None:
                average(averaged, model, recipe.ema, optimizer.iterations)
            total = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            sums = sums.write(step, total)
            if counter is not None:
                with tf.control_dependencies([total]):  # else TensorFlow counts ahead of the updates
                    counter.assign_add(1)
        return sums.stack()

    return train_steps


def clip(gradients: list[tf.Tensor], longest: float, scale: tf.Tensor | float) -> list[tf.Tensor]:
    """Scales the gradients so that their sum over the replicas, all variables together, is `longest` long at most.

    To be called on each replica with its own gradients (Pascanu et al. 2013, arXiv 1211.5063, section 3.2); `scale` is
    what the loss, and so they, were multiplied by.
    """
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    length = tf.linalg.global_norm(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)) / scale
    return [each * longest / tf.maximum(length, longest) for each in gradients]


def average(averaged: keras.Model, model: keras.Model, kept: float, steps: tf.Tensor) -> None:
    """Moves each floating-point variable of `averaged` towards the same one of `model`, which has done so many steps.

    The average keeps the share `kept` of itself; in the first steps less, (1 + steps) / (10 + steps), so that it soon
    forgets the random weights that it begins with, as TensorFlow's ExponentialMovingAverage does.
    """
    import tensorflow as tf

    steps = tf.cast(steps, tf.float32)
    kept = tf.minimum(kept, (1 + steps) / (10 + steps))
    for mean, variable in zip(averaged.variables, model.variables, strict=True):
        if variable.dtype == "float32":
            mean.assign(kept * mean + (1 - kept) * variable)


def make_eval_step(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[..., tf.Tensor]:
    """A function of one distributed batch (images, labels, weights) to its `Sums` as a float32 vector of 4."""
    import tensorflow as tf

    def replica_step(images, labels, weights):
        logits = model(images, training=False)
        return sums_of(cross_entropy(labels, logits) * weights, labels, logits, weights)

    @tf.function(reduce_retracing=True)
    def eval_step(batch):
        sums = strategy.run(replica_step, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return eval_step


def make_total(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a float32 tensor of this worker to the sum over all replicas; all workers must call it."""
    import tensorflow as tf

    @tf.function
    def total(value):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(value,)), axis=None)

    return total


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Softmax cross-entropy of each example, (batch,); smoothing as in Szegedy et al. 2015, section 7."""
    import tensorflow as tf

    if not label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    classes = logits.shape[-1]
    targets = tf.one_hot(labels, classes) * (1 - label_smoothing) + label_smoothing / classes
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def distillation(teacher: tf.Tensor, logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """How far the student is from its teacher, example by example, (batch,): 0 where they agree.

    The Kullback-Leibler divergence of both at `temperature`, times its square, which keeps the gradients as large as
    those of the labels (Hinton et al. 2015, arXiv 1503.02531, section 2).

    Args:
        teacher: probabilities, (batch, classes). Their logarithms are its logits up to a constant that softmax ignores.
        logits: of the student, (batch, classes).
    """
    import tensorflow as tf

    wanted = tf.nn.log_softmax(tf.math.log(tf.maximum(teacher, 1e-10)) / temperature)
    given = tf.nn.log_softmax(logits / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=1)


def sums_of(losses: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """[loss, top-1 hits, top-5 hits, examples], float32 (4,); examples of weight 0 count for nothing.

    Ranks are counted as in `metrics.rank_of_label`: of equal logits, which a ReLU makes at 0, the first class ranks
    first.
    """
    import tensorflow as tf

    own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]  # (batch, 1)
    earlier = tf.range(tf.shape(logits, labels.dtype)[1])[None] < labels[:, None]
    ahead = tf.math.count_nonzero((logits > own) | ((logits == own) & earlier), axis=1)  # (batch,), 0 for the first
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=1)

    def hits(k: int) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(finite & (ahead < k), tf.float32) * weights)

    return tf.stack([tf.reduce_sum(losses), hits(1), hits(5), tf.reduce_sum(weights)])
