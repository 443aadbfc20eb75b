"""In which number format a training step computes its convolutions. Weights, loss and evaluation are float32 always."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqznet.core import startup

if TYPE_CHECKING:
    import keras

# Compute capabilities of NVIDIA GPUs from which on a format has matrix units of its own.
_VOLTA, _AMPERE = (7, 0), (8, 0)
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})  # of x86 processors


def choose(wanted: str) -> str:
    """`wanted`, one of recipes.PRECISIONS, with `auto` replaced by what this machine has units for.

    That is bfloat16 on GPUs from Ampere on and on processors with AVX512-BF16 or AMX; float16, with its loss scaled,
    on Volta and Turing; else float32, as older GPUs (the K80) and processors are no faster with fewer bits.
    """
    import tensorflow as tf

    if wanted != "auto":
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "bfloat16" if startup.processor_features() & _BFLOAT16 else "float32"
    return of_capability(
        min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus)
    )


def of_capability(capability: tuple[int, int]) -> str:
    """What `choose` gives for the least GPU of a machine."""
    return "bfloat16" if capability >= _AMPERE else "float16" if capability >= _VOLTA else "float32"


@contextlib.contextmanager
def computing(model: keras.Model, precision: str) -> Iterator[None]:
    """While a step is traced: the layers of `model` compute in `precision` and keep their variables in float32.

    Pixels are normalised before, logits averaged and the loss taken after it, in float32. The model that is saved and
    evaluated knows nothing of it.
    """
    import keras

    layers = [layer for layer in model.layers if layer.name not in ("image", "normalise", "logits")]
    before = [layer.dtype_policy for layer in layers]
    try:
        if precision != "float32":
            for layer in layers:
                layer.dtype_policy = keras.DTypePolicy(f"mixed_{precision}")
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
