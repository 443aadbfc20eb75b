"""Measures the time and the memory that exported files need on this machine.

Each file runs in its own runtime, on the processor, with batch 1. Each number of threads has its own process. The
process makes 5 runs to warm up, then the measured runs. The time is from uint8 pixels in memory to probabilities.
Decoding and resizing the photograph are not included.

"peak memory" is the largest increase of the resident memory of this process while it imports the runtime, loads the
file and runs it. "of it runtime" is the increase during the import of the runtime. The memory of Python and NumPy is
not included. The figures compare files on this machine. A phone has another processor and other builds of the runtimes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from sqznet.core import console
from sqznet.core.errors import InputError
from sqznet.runs import run_folder

COLUMNS = ["file", "bytes", "threads", "median ms", "p90 ms", "peak memory MiB", "of it runtime MiB"]


def measure(model: Path, threads: tuple[int, ...], runs: int) -> dict[str, Any]:
    """Measures the files of a bundle, or one model. Prints the table and returns the figures.

    Raises:
        InputError: there is no such model, or the model cannot be run.
    """
    models = models_of(model)
    from sqznet.core import files
    from sqznet.predict import latency

    measured = []
    for path in models:
        for count in threads:
            console.say(f"measuring {path.name} with {count} {'thread' if count == 1 else 'threads'}")
            timing = latency.in_own_process(path, count, runs)
            measured.append(
                {"file": path.name, "bytes": files.size_of(path), "threads": count, **dataclasses.asdict(timing)}
            )
    console.table(
        COLUMNS,
        [
            [each["file"], f"{each['bytes']:,}", each["threads"], f"{each['median_ms']:.2f}", f"{each['p90_ms']:.2f}"]
            + [f"{each['peak_mib']:.1f}", f"{each['runtime_mib']:.1f}"]
            for each in measured
        ],
        title=f"batch 1, {latency.WARM_UP} warm-ups, then {runs} runs, on {latency.processor()}",
    )
    return {"batch": 1, "warm_up": latency.WARM_UP, "runs": runs, "measured": measured}


def models_of(model: Path) -> list[Path]:
    """Returns the files of a bundle, sorted by name, or the given model file. For a run, returns its best model.

    Raises:
        InputError: the path does not exist, or manifest.json cannot be read, or a file that it lists does not exist.
    """
    if not model.exists():
        raise InputError(
            f"no such file or folder: {model} (expected a bundle of `python -m sqznet.export`, or a model)"
        )
    manifest = model / "manifest.json"
    if not manifest.is_file():
        best = model / run_folder.BEST
        return [best if best.is_file() else model]  # a run folder also has checkpoints and events
    try:
        names = sorted(json.loads(manifest.read_text())["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} is not that of an export ({type(error).__name__}: {error})") from None
    missing = next((name for name in names if Path(name).name != name or not (model / name).exists()), None)
    if missing is not None:
        raise InputError(f"{manifest} lists {missing!r}, and {model} has no such file: export again")
    if not names:
        raise InputError(f"{manifest} lists no model files: export again")
    return [model / name for name in names]
