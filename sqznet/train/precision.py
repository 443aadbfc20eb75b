"""Chooses the number format of the convolutions in a training step. Weights, loss and evaluation are always float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from sqznet.core import processor

# The first compute capabilities of NVIDIA GPUs with matrix units for float16 and bfloat16.
_VOLTA, _AMPERE = (7, 0), (8, 0)
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})  # of x86 processors


def choose(wanted: str) -> str:
    """Returns `wanted`, one of recipe.PRECISIONS, but replaces `auto` by the fastest format of this machine.

    The fastest format is bfloat16 on GPUs from Ampere on and on processors with AVX512-BF16 or AMX. It is float16 with
    loss scaling on Volta and Turing. On other hardware it is float32, because older GPUs (the K80) and processors are
    not faster with fewer bits.
    """
    if wanted != "auto":
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "bfloat16" if processor.features() & _BFLOAT16 else "float32"
    return of_capability(
        min(tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus)
    )


def of_capability(capability: tuple[int, int]) -> str:
    """Returns the fastest format of a GPU with this compute capability."""
    return "bfloat16" if capability >= _AMPERE else "float16" if capability >= _VOLTA else "float32"


@contextlib.contextmanager
def computing(model: keras.Model, precision: str) -> Iterator[None]:
    """Lets the layers of `model` compute in `precision` in the block, in which a step is traced.

    Variables stay float32. The normalisation of pixels, the averaging of logits and the loss stay float32. The saved
    and evaluated model is not changed.
    """
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
