"""How fast exported files are on this machine, and how much memory they add.

Each file runs in its own runtime, on the processor, with one photograph at a time (batch 1), in a process of its own
for each number of threads: 5 runs to warm up, then those that count. The time is from uint8 pixels in memory to
probabilities; decoding and scaling of the photograph are not in it.

"peak memory" is how far the resident memory of that process rose at most, by importing the runtime, loading the file
and running it; "of it runtime" is what the import alone took. What Python and NumPy took before is not in it. The
figures compare files on this machine: a phone has another processor and other builds of the runtimes.
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
    """Prints the table of a bundle's files, or of one model, and returns its figures.

    Raises:
        InputError: no such model, or one that cannot be run.
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
    """The model files of an exported bundle, in the order of their names, or the one model that is named; a run's best.

    Raises:
        InputError: no such path, or a manifest.json that cannot be read, or lists what is not there.
    """
    if not model.exists():
        raise InputError(
            f"no such file or folder: {model} (expected a bundle of `python -m sqznet.export`, or a model)"
        )
    manifest = model / "manifest.json"
    if not manifest.is_file():
        best = model / run_folder.BEST
        return [best if best.is_file() else model]  # of a run, the model without checkpoint and events
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
