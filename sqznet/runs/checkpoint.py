"""Reads and writes checkpoints. A checkpoint is one file with the whole state of a run. The write is atomic.

The file is a NumPy .npz without pickled objects, followed by the SHA-256 of these bytes. The file does not depend on
the strategy. Therefore a run may be resumed with another strategy.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet.core import console, files
from sqznet.core.errors import InputError

if TYPE_CHECKING:
    import keras

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d+)\.npz")
_PROGRESS = "progress"
_DIGEST = hashlib.sha256().digest_size


def variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Returns all variables that an update reads or writes, by name."""
    named = model_variables(model)
    for index, variable in enumerate(optimizer.variables):
        named[f"optimizer/{index}/{variable.name}"] = variable
    return named


def model_variables(model: keras.Model, prefix: str = "model") -> dict[str, keras.Variable]:
    """Returns weights, batch statistics and dropout state, by names that do not depend on the process."""
    return {
        f"{prefix}/{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.variables
    }


def read(named: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Reads the values of (possibly mirrored) variables. With several workers, all of them must call this function."""
    return {name: variable.value.numpy() for name, variable in named.items()}


def path_of(run_dir: Path, step: int) -> Path:
    return run_dir / FOLDER / f"step-{step:08d}.npz"


def steps(run_dir: Path) -> list[int]:
    """Returns the steps of all checkpoints, from first to last."""
    found = [_NAME.fullmatch(path.name) for path in (run_dir / FOLDER).glob("*.npz")]
    return sorted(int(match[1]) for match in found if match)


def save(run_dir: Path, step: int, arrays: dict[str, np.ndarray], progress: dict[str, Any], *, keep: int) -> None:
    """Writes arrays and progress (JSON values). Then removes all checkpoints except the last `keep`.

    Checkpoints of later steps are removed too. The run has returned to this step, because those
    checkpoints are damaged.
    """
    content = io.BytesIO()
    np.savez(content, **{_PROGRESS: np.array(json.dumps(progress))}, **arrays)  # type: ignore[arg-type]
    stored = content.getvalue()
    files.write_bytes(path_of(run_dir, step), stored + hashlib.sha256(stored).digest())
    here = [each for each in steps(run_dir) if each <= step][-keep:]
    for each in set(steps(run_dir)) - set(here):
        files.remove(path_of(run_dir, each))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the progress of a checkpoint.

    Raises:
        InputError: the checkpoint is damaged.
    """
    try:
        content = path.read_bytes()
        stored, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(stored).digest() != digest:
            raise OSError("its checksum is wrong")
        with np.load(io.BytesIO(stored), allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
        return arrays, json.loads(str(arrays.pop(_PROGRESS)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged ({error})") from None


def load_last(run_dir: Path) -> tuple[Path, dict[str, np.ndarray], dict[str, Any]]:
    """Reads the last readable checkpoint of a run. Prints which checkpoints are damaged.

    Raises:
        InputError: there is no readable checkpoint.
    """
    found = steps(run_dir)
    for step in reversed(found):
        path = path_of(run_dir, step)
        try:
            return path, *load(path)
        except InputError as error:
            console.say(f"{error}; going back to the checkpoint before it")
    if found:
        raise InputError(f"no checkpoint in {run_dir / FOLDER} can be read; train anew, with another --run_dir")
    raise InputError(f"{run_dir} has no checkpoint: nothing to resume from")


def restore(named: dict[str, keras.Variable], arrays: dict[str, np.ndarray], where: Path) -> None:
    """Assigns arrays to variables.

    Raises:
        InputError: names or shapes differ, for example because of another architecture. The error names the first
            difference.
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
