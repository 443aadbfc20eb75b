"""A run folder: where it is, and what the files in it are called.

config.json      recipe, classes, channel means, data, versions: enough to repeat the run
metrics.csv      a line an epoch; the same each time that the run is repeated
timings.csv      images per second and seconds of each epoch
best.keras       the model of the best epoch: the highest val top-1, then the lowest val loss
checkpoints/     the whole state, to resume from: the last few
curve.png        loss and accuracy over the epochs
events/          the same for TensorBoard
logs/            what each worker said
bad_records.csv  records that the run goes on without, if there are any; mended/ holds their shards
lock             who trains there now; after a kill it stays until the next training
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
WRITTEN = (CONFIG, BEST, "metrics.csv", "timings.csv", "curve.png")  # by the chief alone, besides checkpoints
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
    """Keeps other processes from training in a run folder, and clears away what a killed one was writing.

    Raises:
        InputError: another process trains there, or something cannot be written there, now or in the block.
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
            first=lambda: _clear(run_dir),  # it may be what fills the disk
        ):
            try:
                yield
            except InputError:
                if is_new and not (run_dir / CONFIG).exists():
                    _forget(run_dir)
                raise
    except InputError:
        if is_new:
            with contextlib.suppress(OSError):  # not empty: it began, or others have left something there
                run_dir.rmdir()
        raise
    except Exception as error:
        failed = files.why_not_written(error)
        if failed is None:
            raise
        failed.filename = failed.filename or str(run_dir)
        kept = checkpoint.steps(run_dir)
        onwards = f"; with --resume --run_dir={run_dir} it goes on from step {kept[-1]}" if kept else ""
        raise files.refusal(failed, onwards) from None


def trains_in(run_dir: Path) -> str:
    """What the holder of a run folder's lock does."""
    return f"trains in {run_dir}"


def _clear(run_dir: Path) -> None:
    """Removes what a killed training was writing. Others, such as `evaluate`, may be writing beside it now."""
    files.clear(run_dir / checkpoint.FOLDER)
    for name in WRITTEN:
        files.remove_abandoned(run_dir / name, age=0)


def _forget(run_dir: Path) -> None:
    """Removes the log of a run that was refused before it began."""
    (run_dir / LOGS / "worker-0.log").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other workers have left something there
        (run_dir / LOGS).rmdir()


def new(recipe_name: str, root: Path = RUNS) -> Path:
    """The path of a run folder that does not exist yet: runs/20260102-030405-article."""
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe_name}"


def newest(file: str, root: Path = RUNS) -> Path:
    """The run folder whose `file` (a name or a pattern) was written last.

    Raises:
        InputError: no run has it.
    """
    found = sorted((path for path in root.glob(f"*/{file}") if path.exists()), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"no run with {file} in {root}/: train one first (python -m sqznet.train), or name a path")
    return root / found[-1].relative_to(root).parts[0]


def load_config(run_dir: Path) -> dict[str, Any]:
    """config.json as written.

    Raises:
        InputError: it is not a run folder, or its config is damaged; says what was expected.
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
    """The folder of the shards that a model was trained on: as its run names it, else as its card does.

    Raises:
        InputError: neither does, or there is no such folder here.
    """
    run = path if path.is_dir() else path.parent
    if (run / CONFIG).is_file() and path in (run, run / BEST):
        return remote.folder(load_config(run)["data"])
    if card.data is None:
        raise InputError(f"nothing in {path} or beside it says which data it was trained with: give --data=FOLDER")
    if "://" not in card.data and not Path(card.data).is_dir():
        raise InputError(f"{path} was trained on {card.data!r}, and there is no such folder here: give --data=FOLDER")
    return remote.folder(card.data)
