"""The SavedModel writer: one serving signature, each variable once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.export import serving

if TYPE_CHECKING:
    import keras


def write(model: keras.Model, path: Path) -> None:
    """Writes an inference model as a SavedModel folder.

    Its signature `serving_default` takes `image`, float32 (any, size, size, 3), and gives `probabilities`.
    """
    import tensorflow as tf

    module = serving.module(model, batch=None)
    # The stack traces of the functions are of no use to those who run them.
    options = tf.saved_model.SaveOptions(experimental_debug_stripper=True)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve}, options=options)
