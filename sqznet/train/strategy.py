"""Creates the tf.distribute strategy with a given name. The training loop is the same for all strategies."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.train import cluster
from sqznet.train.cluster import Cluster

NAMES = ("one", "mirrored", "multiworker")
GPUS = Path("/proc/driver/nvidia/gpus")  # a folder for each, made by NVIDIA's driver on Linux


def create(name: str, replicas: int | None = None, machines: Cluster | None = None) -> tf.distribute.Strategy:
    """Creates a strategy for the devices of this machine.

    Args:
        name: `one` device; `mirrored`: all GPUs of this machine, or logical CPUs without GPUs; `multiworker`: all
            `machines`.
        replicas: number of devices of `mirrored`. None means all GPUs, or one CPU.
        machines: the machines of `multiworker`. None means that TF_CONFIG or Slurm names them.

    Raises:
        InputError: the name is unknown, there are more replicas than GPUs, no usable cluster, or GPUs that TensorFlow
            cannot use.
    """
    if name not in NAMES:
        raise InputError(f"no strategy {name!r}; there are {', '.join(NAMES)}")
    if replicas is not None and name != "mirrored":
        raise InputError(f"--replicas goes with --strategy=mirrored, not with --strategy={name}")
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        _refuse_unusable_gpus()
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # allocate memory as needed, not all at once
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


def _refuse_unusable_gpus() -> None:
    """Raises InputError if the driver lists GPUs that are not hidden by CUDA_VISIBLE_DEVICES.

    TensorFlow would only log that it cannot use them, and train on the processor, for weeks.
    """
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
            "libraries (pip install 'sqznet[gpu]') and compute capability 6.0 or more (the K80: 3.7); "
            "see the support table in docs/gpus.md. To train on the processor: CUDA_VISIBLE_DEVICES=-1"
        )


def _make_logical_cpus(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if count <= (1 if configured is None else len(configured)):
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # after the first operation
        raise InputError(f"cannot divide the CPU into {count} logical devices any more: {error}") from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes the run folder."""
    return worker(strategy) == 0


def worker(strategy: tf.distribute.Strategy) -> int:
    """Returns the index of this process among the workers. The chief has index 0."""
    resolver = strategy.cluster_resolver
    return resolver.task_id or 0 if resolver and resolver.task_type else 0


def workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    resolver = strategy.cluster_resolver
    return len(resolver.cluster_spec().as_dict().get("worker", [])) or 1 if resolver else 1
