"""Writes SavedModels: one serving signature, each variable once."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from sqznet.export import serving


def write(model: keras.Model, path: Path, *, with_class_map: bool = False) -> None:
    """Writes an inference model as a SavedModel folder.

    Its signature `serving_default` takes `image`, float32 (any, size, size, 3), and returns `probabilities`. With
    `with_class_map`, it returns `class_map` as well.
    """
    module = serving.module(model, batch=None, with_class_map=with_class_map)
    # Without the stack traces of the functions.
    options = tf.saved_model.SaveOptions(experimental_debug_stripper=True)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve}, options=options)
