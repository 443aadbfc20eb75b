"""A run folder: where it is, and what the files in it are called.

config.json      recipe, classes, channel means, data, versions: enough to repeat the run
metrics.csv      a line an epoch
best.keras       the model of the epoch with the highest val top-1
checkpoint.npz   the whole state, to resume from
curve.png        loss and accuracy over the epochs
events/          the same for TensorBoard
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sqznet.errors import InputError

RUNS = Path("runs")
CONFIG = "config.json"
BEST = "best.keras"


def new(recipe_name: str, root: Path = RUNS) -> Path:
    """The path of a run folder that does not exist yet: runs/20260102-030405-article."""
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe_name}"


def newest(file: str, root: Path = RUNS) -> Path:
    """The run folder whose `file` was written last.

    Raises:
        InputError: no run has that file.
    """
    found = sorted(root.glob(f"*/{file}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"no run with a {file} in {root}/: train one first (python -m sqznet.train), or name a path")
    return found[-1].parent


def load_config(run_dir: Path) -> dict[str, Any]:
    """config.json as written.

    Raises:
        InputError: it is not a run folder.
    """
    path = run_dir / CONFIG
    if not run_dir.is_dir():
        raise InputError(f"no such run folder: {run_dir}")
    if not path.is_file():
        raise InputError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text())
        _ = [config[key] for key in ("recipe", "classes", "channel_means", "data", "init_weights", "teacher")]
        return config
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a run's config ({type(error).__name__}: {error})") from None
