"""The workloads that are timed, each in a process of its own: ours, and the other programs it is compared with.

  python -m benchmarks.workloads train-sqznet '{"arch": "v1.0", "image_size": 227, "batch": 32}'
      does one round for each line of its input, and answers with one line of JSON

A workload is a function of its settings. It prepares, and returns a function that does one round and returns the number
of images. The other programs are used as their own documentation shows, with their defaults.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import cli, startup
from sqznet.core.errors import InputError
from sqznet.predict import latency

Round = Callable[[], int]
STEPS = 5  # training steps in a round
IMAGES = 5_120  # images of input in a round; many, so that images read ahead before the round count little
MATRIX = 2048  # side of the matrices of the product that the machine's limit is measured with


def train_sqznet(
    arch: str, image_size: int, batch: int, classes: int, precision: str, data: str | None = None
) -> Round:
    """Our training step on tensors in memory, or with `data` on a data set read by the whole input pipeline."""
    startup.load_tensorflow()
    import tensorflow as tf

    from sqznet.train import loop
    from sqznet.train import strategy as strategies

    recipe = _recipe(arch, image_size, batch).replace(precision=precision)
    strategy = strategies.create("one")
    if data:
        batches = _our_batches(data, recipe)
    else:
        batches = tf.data.Dataset.from_tensors(_uint8_batch(image_size, batch, classes)).repeat()
    with strategy.scope():
        model = _network(recipe, classes)
        optimizer = loop.make_optimizer(recipe)
        optimizer.build(model.trainable_variables)
    steps = loop.make_train_steps(model, optimizer, recipe, strategy)
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: batches))
    rates = tf.constant([1e-4] * STEPS, tf.float32)

    def go() -> int:
        if not np.isfinite(steps(iterator, rates).numpy()).all():
            raise InputError("the loss is not finite")
        return STEPS * batch

    return go


def train_keras(arch: str, image_size: int, batch: int, classes: int) -> Round:
    """The same network through Keras' own `fit`, on float images, as in its guides."""
    import keras
    import tensorflow as tf

    model = _network(_recipe(arch, image_size, batch), classes, normalised=True)
    model.compile(
        keras.optimizers.SGD(1e-4, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    images, labels = _uint8_batch(image_size, batch, classes)
    batches = tf.data.Dataset.from_tensors((images.astype(np.float32) - 118, labels)).repeat()

    def go() -> int:
        model.fit(batches, steps_per_epoch=STEPS, epochs=1, verbose=0)
        return STEPS * batch

    return go


def train_pytorch(arch: str, image_size: int, batch: int, classes: int, precision: str) -> Round:
    """The same network in PyTorch, channels last, its fastest layout on a processor.

    With bfloat16 its convolutions compute in that, by PyTorch's own autocast.
    """
    torch = _torch()
    net = _torch_network(arch, classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, momentum=0.9)
    images, labels = _uint8_batch(image_size, batch, classes)
    pixels = torch.from_numpy(images.astype(np.float32) - 118).permute(0, 3, 1, 2)
    pixels, wanted = pixels.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)

    def go() -> int:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                logits = net(pixels)
            torch.nn.functional.cross_entropy(logits.float(), wanted).backward()
            optimizer.step()
        return STEPS * batch

    return go


def matrix_product() -> Round:
    """TensorFlow's float32 matrix product; an "image" is 1 GFLOP."""
    startup.load_tensorflow()
    import tensorflow as tf

    left, right = (tf.random.normal([MATRIX, MATRIX], seed=seed) for seed in (0, 1))
    product = tf.function(tf.matmul)
    times = 40

    def go() -> int:
        for _ in range(times):
            last = product(left, right)
        _ = last.numpy()
        return round(times * 2 * MATRIX**3 / 1e9)

    return go


def input_sqznet(data: str, image_size: int, batch: int) -> Round:
    """Our pipeline with random resized crops, to batches of uint8."""
    startup.load_tensorflow()
    batches = _our_batches(data, _recipe("v1.0", image_size, batch))
    return _reading(iter(batches), batch)


def input_decode_jpeg(data: str, image_size: int, batch: int) -> Round:
    """The pipeline of TensorFlow's guides: decode the whole photograph, crop, resize."""
    startup.load_tensorflow()
    import tensorflow as tf

    from sqznet.data import manifest, records

    def example(record):
        jpeg, label = records.parse(record, decoded=False)
        image = tf.io.decode_jpeg(jpeg, channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image), tf.zeros([1, 0, 4]), area_range=(0.08, 1), use_image_if_no_bounding_boxes=True
        )
        image = tf.image.resize(tf.slice(image, begin, size), [image_size, image_size])
        return tf.image.random_flip_left_right(image), label

    files = [str(shard.path) for shard in manifest.load(Path(data)).shards_of("train")]
    batches = tf.data.TFRecordDataset(files).repeat().shuffle(1024).map(example, tf.data.AUTOTUNE).batch(batch)
    return _reading(iter(batches.prefetch(tf.data.AUTOTUNE)), batch)


def input_pytorch(data: str, image_size: int, batch: int) -> Round:
    """PyTorch's DataLoader with Pillow and one worker for each core, on the same photographs as files in memory."""
    torch = _torch()
    batches = torch.utils.data.DataLoader(
        _Photographs(_jpegs(data), image_size),
        batch,
        num_workers=startup.cores(),
    )
    return _reading(iter(batches), batch)


WORKLOADS: dict[str, Callable[..., Round]] = {
    "train-sqznet": train_sqznet,
    "train-keras": train_keras,
    "train-pytorch": train_pytorch,
    "matrix-product": matrix_product,
    "input-sqznet": input_sqznet,
    "input-decode-jpeg": input_decode_jpeg,
    "input-pytorch": input_pytorch,
}


class _Photographs:
    """A PyTorch data set: random resized crops of JPEGs, as torchvision's transform makes them, with Pillow."""

    def __init__(self, jpegs: list[bytes], image_size: int) -> None:
        self.jpegs, self.image_size = jpegs, image_size

    def __len__(self) -> int:
        return 10**7  # more than are read

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import io

        import torch  # not by `_torch`, which would give each worker all threads
        from PIL import Image

        rng = np.random.default_rng(index)
        image = Image.open(io.BytesIO(self.jpegs[index % len(self.jpegs)])).convert("RGB")
        width, height = image.size
        area, aspect = rng.uniform(0.08, 1) * width * height, np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = min(width, round((area * aspect) ** 0.5)), min(height, round((area / aspect) ** 0.5))
        left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
        side = self.image_size
        crop = image.crop((left, top, left + wide, top + high)).resize((side, side), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(crop)), 0


def _reading(batches: Any, batch: int) -> Round:
    def go() -> int:
        for _ in range(IMAGES // batch):
            next(batches)
        return IMAGES // batch * batch

    return go


def _recipe(arch: str, image_size: int, batch: int) -> Any:
    from sqznet import recipes

    return recipes.ARTICLE.replace(
        arch=arch, image_size=image_size, resize_to=image_size * 256 // 227, global_batch_size=batch, crop="resized"
    )


def _network(recipe: Any, classes: int, *, normalised: bool = False) -> Any:
    from sqznet.network import architecture, model

    network = architecture.Network(
        classes, arch=recipe.arch, activation=recipe.activation, image_size=recipe.image_size
    )
    means = None if normalised else (123.0, 117.0, 104.0)
    return model.build(network, channel_means=means, dropout=recipe.dropout, fixed_size=normalised)


def _our_batches(data: str, recipe: Any) -> Any:
    from sqznet.data import manifest, pipeline
    from sqznet.recipes import schedule

    found = manifest.load(Path(data))
    records = found.records("train")
    plan = schedule.plan(recipe.replace(epochs=-(-10_000_000 // records)), records)
    return pipeline.training_batches(found, plan, replicas=1)


def _jpegs(data: str) -> list[bytes]:
    from sqznet.data import manifest, records

    startup.load_tensorflow()
    return [
        features["image/encoded"].bytes_list.value[0]
        for shard in manifest.load(Path(data)).shards_of("train")
        for features in records.read(shard.path)
    ]


def _uint8_batch(image_size: int, batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, image_size, image_size, 3), np.uint8), rng.integers(0, classes, batch)


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise InputError("PyTorch is not installed: pip install torch") from None
    torch.set_num_threads(startup.cores())
    return torch


def _torch_network(arch: str, classes: int) -> Any:
    from sqznet.network import architecture

    torch = _torch()
    nn, shape = torch.nn, architecture.ARCHS[arch]

    class Fire(nn.Module):  # type: ignore[name-defined]
        def __init__(self, channels: int, squeeze: int, expand: int) -> None:
            super().__init__()
            self.squeeze, self.small = nn.Conv2d(channels, squeeze, 1), nn.Conv2d(squeeze, expand, 1)
            self.large, self.elu = nn.Conv2d(squeeze, expand, 3, padding=1), nn.ELU(inplace=True)

        def forward(self, x: Any) -> Any:
            x = self.elu(self.squeeze(x))
            return torch.cat([self.elu(self.small(x)), self.elu(self.large(x))], 1)

    def pool() -> Any:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    channels = shape.conv1_filters
    layers = [nn.Conv2d(3, channels, shape.conv1_kernel, 2), nn.ELU(inplace=True)]
    layers += [pool()] if "conv1" in shape.pooled_after else []
    for name, (squeeze, expand) in architecture.FIRES.items():
        layers.append(Fire(channels, squeeze, expand))
        channels = 2 * expand
        layers += [pool()] if name in shape.pooled_after else []
    layers += [nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ELU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten())


def _core_seconds() -> float:
    """Processor time of this process and its children; on Linux also of children that still run."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


def main() -> int:
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the libraries' output must not mix with the answers
    go = WORKLOADS[name](**settings)
    for _ in sys.stdin:
        used, started = _core_seconds(), time.perf_counter()
        images = go()
        seconds = time.perf_counter() - started
        measured = {"images": images, "seconds": seconds, "core_seconds": _core_seconds() - used}
        answers.write(json.dumps({**measured, "peak_mib": latency.peak_bytes() / latency.MIB}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    cli.run(main)
