"""Calibrates a model: fits one temperature on a split and stores it in the model's .keras file (Guo et al. 2017).

The file also gets a table: for each threshold of the largest probability, how many records of the split are answered,
and how many of the answers are right (`core.threshold`).

`predict`, `evaluate` and `export` divide the logits by the temperature. The top-1 class of a record does not change.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from sqznet.core import console, locks, probabilities, threshold
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.data.manifest import Manifest
from sqznet.evaluate.scoring import BATCH
from sqznet.network import exported, keras_file
from sqznet.predict import inference
from sqznet.runs import run_folder

SPLIT = "val"


def file_of(path: Path) -> Path:
    """Returns the .keras file of a model, which stores its temperature.

    Raises:
        InputError: the model has no .keras file.
    """
    if path.is_dir() and (path / run_folder.CONFIG).is_file():
        return path / run_folder.BEST
    if path.is_file() and exported.suffix_of(path) == ".keras":
        return path
    raise InputError(
        f"--calibrate stores the temperature in a .keras file, and {path} is not a run folder or a .keras file: "
        "calibrate the run or the .keras file and export it again; python -m sqznet.weights --out=model.keras writes "
        "published weights as a .keras file"
    )


def calibrate(path: Path, manifest: Manifest) -> float:
    """Fits the temperature of a model on val and replaces its .keras file by a rename. Returns the temperature.

    The fit uses the logits of the network. Therefore an earlier temperature has no effect, and is replaced.

    Args:
        path: a run folder or a .keras file.

    Raises:
        InputError: the model has no .keras file, its run is not finished, the set has no val split, the classes differ,
            or no temperature has the least NLL.
    """
    file = file_of(path)
    holder = locks.holder(file.parent / run_folder.LOCK)
    if holder:
        raise InputError(f"{file} may change: another process {holder}; wait for its end, then calibrate")
    if SPLIT not in manifest.splits or not manifest.records(SPLIT):
        raise InputError(
            f"{manifest.folder} has no {SPLIT} split to fit the temperature on; it has {', '.join(manifest.splits)}. "
            "Build the set with a val split: records of train would give too high probabilities"
        )
    predictor = inference.load(path)
    model, card = predictor.runtime.model, predictor.card  # type: ignore[attr-defined]  # file_of: it is a Keras model
    outputs = predictor.outputs_of(manifest.classes, manifest.folder)
    logits, labels = logits_of(model, card, manifest, SPLIT)
    try:
        value = probabilities.fit_temperature(logits, outputs[labels])
    except ValueError as error:
        right = int((logits.argmax(axis=1) == outputs[labels]).sum())
        raise InputError(
            f"{path} cannot be calibrated: {error}; {right:,} of {len(labels):,} records of {SPLIT} are classified "
            "correctly. Use more records, with some that are classified wrongly and most that are classified correctly"
        ) from None
    fitted = {
        "value": value,
        "split": SPLIT,
        "records": len(labels),
        "records_sha256": manifest.records_sha256(SPLIT),
    }
    found = probabilities.softmax(logits / value)
    rows = threshold.table(found.max(axis=1), found.argmax(axis=1) == outputs[labels])
    keras_file.replace_card(file, dataclasses.replace(card, temperature=fitted, answered=rows))
    console.say(f"temperature {value:.4f}, fitted on {len(labels):,} records of {SPLIT}, is stored in {file}")
    return value


def logits_of(model: keras.Model, card: keras_file.Card, manifest: Manifest, split: str) -> tuple[np.ndarray, ...]:
    """Returns the logits of all records of a split, float32 (n, classes), and their labels in the set, int (n,).

    Half a gigabyte of memory holds the logits of 130,000 records of 1,000 classes.
    """
    size = card.preprocessing.image_size
    run = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
    )
    logits, labels = [], []
    with console.progress("images/s") as bar:
        task = bar.add_task(f"calibrating on {split}", total=manifest.records(split))
        for images, some in pipeline.examples(manifest, split, card.preprocessing, None, BATCH):
            logits.append(run(images).numpy())
            labels.append(some)
            bar.advance(task, len(some))
    return np.concatenate(logits), np.concatenate(labels)
