"""Defines run folders: their paths, their files, and the lock.

config.json      recipe, classes, channel means, data, versions: all that is needed to repeat the run
metrics.csv      a line an epoch; a repeated run writes the same
timings.csv      images per second and seconds of each epoch
best.keras       the model of the best epoch: the highest val top-1 (or the recipe's `best`), then the lowest val loss
checkpoints/     the last checkpoints, to resume from
curve.png        loss and accuracy by epoch
events/          the same for TensorBoard
logs/            the output of each worker
bad_records.csv  corrupt records that the run leaves out, if there are any; mended/ holds their shards
lock             the process that trains there; after a kill it stays until the next training
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqznet.core import files, foreign, locks, remote, typed
from sqznet.core.errors import InputError
from sqznet.network.keras_file import Card
from sqznet.runs import checkpoint

RUNS = Path("runs")
CONFIG = "config.json"
BEST = "best.keras"
LOCK = "lock"
LOGS = "logs"
WRITTEN = (
    CONFIG,
    BEST,
    "metrics.csv",
    "timings.csv",
    "curve.png",
)  # files that only the chief writes, besides checkpoints
_THREE = tuple[float, float, float]
ORIGIN_FIELDS = {"path": str, "channel_means": _THREE, "channel_deviations": _THREE}
CONFIG_FIELDS = {
    "recipe": dict,
    "classes": list[str],
    "channel_means": _THREE,
    "data": str,
    "init_weights": dict | None,
    "teacher": str | None,
}
EVENTS = "events"


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Locks a run folder for a training. Removes the temporary files of a killed training.

    Raises:
        InputError: another process trains in this folder, or the folder cannot be written to, now or in the block.
    """
    if run_dir.is_file():
        raise InputError(f"--run_dir={run_dir} is a file; name a folder")
    is_new = not run_dir.exists()
    try:
        with locks.locked(
            run_dir / LOCK,
            trains_in(run_dir),
            wait=False,
            remedy="wait for it, or name another --run_dir",
            first=lambda: _clear(run_dir),  # frees space on a full disk
        ):
            try:
                yield
            except InputError:
                if is_new and not (run_dir / CONFIG).exists():
                    _forget(run_dir)
                raise
    except InputError:
        if is_new:
            with contextlib.suppress(OSError):  # not empty: the run has started, or other processes have files there
                run_dir.rmdir()
        raise
    except Exception as error:
        failed = files.write_failure(error)
        if failed is None:
            raise
        failed.filename = failed.filename or str(run_dir)
        kept = checkpoint.steps(run_dir)
        onwards = f"; with --resume --run_dir={run_dir} it continues from step {kept[-1]}" if kept else ""
        raise files.refusal(failed, onwards) from None


def trains_in(run_dir: Path) -> str:
    """Describes the work of the holder of a run folder's lock, for messages."""
    return f"trains in {run_dir}"


def _clear(run_dir: Path) -> None:
    """Removes temporary files of a killed training, but not the files of other commands, such as `evaluate`."""
    files.remove_temporaries(run_dir / checkpoint.FOLDER)
    for name in WRITTEN:
        files.remove_abandoned(run_dir / name, age=0)


def _forget(run_dir: Path) -> None:
    """Removes the log of a run that was refused before its start."""
    (run_dir / LOGS / "worker-0.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other workers have logs there
        (run_dir / LOGS).rmdir()


def new(recipe_name: str, root: Path = RUNS) -> Path:
    """Returns the path of a new run folder, such as runs/20260102-030405-article."""
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe_name}"


def newest(file: str, root: Path = RUNS) -> Path:
    """Returns the run folder with the newest `file` (a name or a pattern).

    Raises:
        InputError: no run has such a file.
    """
    found = sorted((path for path in root.glob(f"*/{file}") if path.exists()), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"no run with {file} in {root}/: train one first (python -m sqznet.train), or name a path")
    return root / found[-1].relative_to(root).parts[0]


def load_config(run_dir: Path) -> dict[str, Any]:
    """Reads config.json.

    Raises:
        InputError: the folder is not a run folder, or its config is damaged.
    """
    path = run_dir / CONFIG
    if not run_dir.is_dir():
        raise InputError(f"no such run folder: {run_dir}")
    if not path.is_file():
        kind = foreign.folder(run_dir)
        raise InputError(f"{run_dir} is not a run folder: it has no {CONFIG}" + (f"; it is {kind}" if kind else ""))
    config = typed.read_json(path)
    typed.require(config, CONFIG_FIELDS, str(path))
    typed.require(config["recipe"], {"name": str}, f"{path}: recipe")
    if config["init_weights"] is not None:
        typed.require(config["init_weights"], ORIGIN_FIELDS, f"{path}: init_weights")
    return config


def trained_on(card: Card, path: Path) -> Path:
    """Returns the folder of the shards that a model was trained on, from the config of its run or from its card.

    Raises:
        InputError: neither the run nor the card names a folder, or there is no such folder on this machine.
    """
    run = path if path.is_dir() else path.parent
    if (run / CONFIG).is_file() and path in (run, run / BEST):
        return remote.folder(load_config(run)["data"])
    if card.data is None:
        raise InputError(f"{path} does not name the data that it was trained on: give --data=FOLDER")
    if "://" not in card.data and not Path(card.data).is_dir():
        raise InputError(f"{path} was trained on {card.data!r}, and there is no such folder here: give --data=FOLDER")
    return remote.folder(card.data)
