"""The name of a distribution strategy to the tf.distribute object. One training loop serves them all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.train import cluster
from sqznet.train.cluster import Cluster

if TYPE_CHECKING:
    import tensorflow as tf

NAMES = ("one", "mirrored", "multiworker")
GPUS = Path("/proc/driver/nvidia/gpus")  # a folder for each, made by NVIDIA's driver on Linux


def create(name: str, replicas: int | None = None, machines: Cluster | None = None) -> tf.distribute.Strategy:
    """A strategy for the devices of this machine.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine, or logical CPUs where it has none; or
            `multiworker`, all `machines`.
        replicas: how many devices `mirrored` uses; None means every GPU, or one CPU.
        machines: of `multiworker`; None: those of TF_CONFIG or Slurm.

    Raises:
        InputError: an unknown name, more replicas than GPUs, no usable cluster, or GPUs that TensorFlow cannot use.
    """
    import tensorflow as tf

    if name not in NAMES:
        raise InputError(f"no strategy {name!r}; there are {', '.join(NAMES)}")
    if replicas is not None and name != "mirrored":
        raise InputError(f"--replicas goes with --strategy=mirrored, not with --strategy={name}")
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        _refuse_to_pass_over_gpus()
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # leave room for others until it is needed
    if name == "one":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if name == "multiworker":
        (machines or cluster.find(None, None)).set_up()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if gpus:
        count = replicas or len(gpus)
        if count > len(gpus):
            raise InputError(f"--replicas={count}, but this machine has {len(gpus)} GPUs")
        return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(count)])
    count = replicas or 1
    _make_logical_cpus(count)
    return tf.distribute.MirroredStrategy([f"/cpu:{index}" for index in range(count)])


def _refuse_to_pass_over_gpus() -> None:
    """TensorFlow says in its log only that it does without a GPU, and trains on the processor, for weeks.

    Raises:
        InputError: the driver knows GPUs, and nobody has said that they are not to be used.
    """
    import tensorflow as tf

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    models = [
        line.partition(":")[2].strip()
        for information in sorted(GPUS.glob("*/information"))
        for line in information.read_text().splitlines()
        if line.startswith("Model:")
    ]
    if models and not hidden:
        gpus = console.counted(len(models), "NVIDIA GPU")
        raise InputError(
            f"this machine has {gpus} ({models[0]}) that TensorFlow {tf.__version__} cannot use. It needs CUDA's "
            "libraries (in a checkout: pip install -e '.[gpu]') and compute capability 6.0 or more (the K80: 3.7); "
            "see the support table in BUILD_NOTES.md. To train on the processor: CUDA_VISIBLE_DEVICES=-1"
        )


def _make_logical_cpus(count: int) -> None:
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if count <= (1 if configured is None else len(configured)):
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # TensorFlow's devices are fixed once the first operation has run
        raise InputError(f"cannot divide the CPU into {count} logical devices any more: {error}") from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run folder."""
    return worker(strategy) == 0


def worker(strategy: tf.distribute.Strategy) -> int:
    """The number of this process among them, 0 for the chief."""
    resolver = strategy.cluster_resolver
    return resolver.task_id or 0 if resolver and resolver.task_type else 0


def workers(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together."""
    resolver = strategy.cluster_resolver
    return len(resolver.cluster_spec().as_dict().get("worker", [])) or 1 if resolver else 1
