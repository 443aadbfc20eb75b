"""The whole state of a run in one file: arrays by name, and where the run stands. Written by rename.

The file is a NumPy .npz without pickled objects. It holds no trace of the strategy, so a run may go on under another.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet import files
from sqznet.errors import InputError

if TYPE_CHECKING:
    import keras

FILE = "checkpoint.npz"
_PROGRESS = "progress"


def variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Everything an update reads or writes, by name."""
    named = model_variables(model)
    for index, variable in enumerate(optimizer.variables):
        named[f"optimizer/{index}/{variable.name}"] = variable
    return named


def model_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Weights, batch statistics and the dropout's random state, by layer: names that every build of it shares."""
    return {f"model/{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.variables}


def read(named: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The values of (possibly mirrored) variables. Under several workers, all of them must call it."""
    return {name: variable.value.numpy() for name, variable in named.items()}


def save(path: Path, arrays: dict[str, np.ndarray], progress: dict[str, Any]) -> None:
    """Writes arrays and progress (JSON: numbers, strings, lists)."""
    with files.replacing(path) as temporary:
        np.savez(temporary, **{_PROGRESS: np.array(json.dumps(progress))}, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save` wrote.

    Raises:
        InputError: there is no such file, or it is damaged (zip holds a checksum of every array).
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return arrays, json.loads(str(arrays.pop(_PROGRESS)))
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}: nothing to resume from") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error}); train anew, with another --run_dir") from None


def restore(named: dict[str, keras.Variable], arrays: dict[str, np.ndarray], where: Path) -> None:
    """Sets the variables from arrays.

    Raises:
        InputError: names or shapes differ, as for a run of another architecture; names the first that does.
    """
    for name, variable in named.items():
        if name not in arrays:
            raise InputError(f"{where} is of another architecture: it has no {name}")
        if arrays[name].shape != tuple(variable.shape):
            raise InputError(
                f"{where} is of another architecture: {name} is {arrays[name].shape} there and "
                f"{tuple(variable.shape)} here"
            )
    surplus = sorted(set(arrays) - set(named))
    if surplus:
        raise InputError(f"{where} is of another architecture: it has {surplus[0]}, which is not here")
    for name, variable in named.items():
        variable.assign(arrays[name])
