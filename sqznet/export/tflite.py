"""The TFLite writer: builtin operators only, one image at a time, which is what phones run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.export import serving

if TYPE_CHECKING:
    import keras


def write(model: keras.Model, path: Path, quantize: str) -> None:
    """Writes an inference model as a .tflite file; float32 or, with quantize="float16", weights of half the size.

    Its signature `serving_default` takes `image`, float32 (1, size, size, 3), and gives `probabilities`.
    """
    import tensorflow as tf

    module = serving.module(model, batch=1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
