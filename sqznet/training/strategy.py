"""The name of a distribution strategy to the tf.distribute object. One training loop serves them all."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from sqznet.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

NAMES = ("one", "mirrored", "multiworker")


def create(name: str, replicas: int | None = None) -> tf.distribute.Strategy:
    """A strategy for the devices of this machine.

    Args:
        name: `one` device; `mirrored`, all GPUs of this machine, or logical CPUs where it has none; or
            `multiworker`, the machines that TF_CONFIG lists.
        replicas: how many devices `mirrored` uses; None means every GPU, or one CPU.

    Raises:
        InputError: an unknown name, more replicas than GPUs, or no usable TF_CONFIG.
    """
    import tensorflow as tf

    if name not in NAMES:
        raise InputError(f"no strategy {name!r}; there are {', '.join(NAMES)}")
    if replicas is not None and name != "mirrored":
        raise InputError(f"--replicas goes with --strategy=mirrored, not with --strategy={name}")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # leave room for others until it is needed
    if name == "one":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if name == "multiworker":
        _check_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if gpus:
        count = replicas or len(gpus)
        if count > len(gpus):
            raise InputError(f"--replicas={count}, but this machine has {len(gpus)} GPUs")
        return tf.distribute.MirroredStrategy([f"/gpu:{index}" for index in range(count)])
    count = replicas or 1
    _make_logical_cpus(count)
    return tf.distribute.MirroredStrategy([f"/cpu:{index}" for index in range(count)])


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


def _check_tf_config() -> None:
    text = os.environ.get("TF_CONFIG")
    expected = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    if not text:
        raise InputError(
            f"--strategy=multiworker reads the cluster from TF_CONFIG, which is not set; expected {expected}"
        )
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        index = config["task"]["index"]
        assert 0 <= index < len(workers)
        assert set(config["cluster"]) == {"worker"}  # worker 0 is the chief
    except (ValueError, KeyError, TypeError, AssertionError):
        raise InputError(f"TF_CONFIG is {text!r}; expected {expected}") from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes the run folder."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_type or resolver.task_id == 0
