"""Times a training step with each batch norm layer: TensorFlow's fused operation, Keras's own layer, and none.

  python -m benchmarks.experiments.batch_norm
  python -m benchmarks.experiments.batch_norm --sizes=128 --rounds=10

v1.1 with simple bypass, ten classes, float32, batches of 64 that are in memory already. The layers take turns in every
round, the first round does not count, and the table has the median of the others.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from sqznet import recipes
from sqznet.core import cli, console, startup

BATCH = 64
STEPS = 5  # in a round
MEANS = (123.0, 117.0, 104.0)


def main() -> int:
    parser = cli.parser("benchmarks.experiments.batch_norm", __doc__)
    parser.add_argument("--sizes", default="64,128", help="sides of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    args = parser.parse_args()
    startup.load_tensorflow()
    from sqznet.train.batch_norm import FusedBatchNormalization

    rows = []
    for size in map(int, args.sizes.split(",")):
        recipe = recipes.IMAGENETTE.replace(image_size=size, resize_to=size, train_sizes=(), precision="float32")
        steps = {
            "fused (ours)": make(recipe, FusedBatchNormalization),
            "Keras": make(recipe, None),
            "no batch norm": make(recipe.replace(batch_norm=False, learning_rate=1e-4), None),
        }
        times = {name: [] for name in steps}
        for _ in range(args.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - started)
        for name, each in times.items():
            rate = STEPS * BATCH / statistics.median(each[1:])
            rows.append([f"{size} px", name, f"{rate:.0f}"])
    console.table(["images", "batch norm", "images/s"], rows, title=f"v1.1, batches of {BATCH}, float32")
    return 0


def make(recipe: recipes.Recipe, layer: type | None):
    """A function that does STEPS updates."""
    import tensorflow as tf

    from sqznet.network import model
    from sqznet.train import loop
    from sqznet.train import strategy as strategies

    strategy = strategies.create("one")
    network = model.Network(
        10, recipe.arch, recipe.activation, recipe.batch_norm, recipe.bypass, image_size=recipe.image_size
    )
    with strategy.scope():
        built = model.build(network, channel_means=MEANS, batch_norm_layer=layer)
        optimizer = loop.make_optimizer(recipe)
        optimizer.build(built.trainable_variables)
    train_steps = loop.make_train_steps(built, optimizer, recipe, strategy)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, recipe.image_size, recipe.image_size, 3), np.uint8)
    batches = tf.data.Dataset.from_tensors((images, rng.integers(0, 10, BATCH))).repeat()
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: batches))
    rates = tf.constant([1e-4] * STEPS, tf.float32)
    return lambda: train_steps(iterator, rates).numpy()


if __name__ == "__main__":
    cli.run(main)
