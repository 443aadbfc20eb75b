"""Stops a search at random moments, starts it again each time, and compares it with one that was left alone.

  python -m tests.kill_search --moments=10
      ten moments of each signal: half an hour on two cores that have nothing else to do
  python -m tests.kill_search --moments=2 --signal=KILL

INT goes to the whole process group of the search, as a terminal sends Ctrl-C; TERM and KILL to the search alone. After
each signal no process of the search may be left after a while; after half of the kills it is started again at once,
while its trial may still be saving. In the end the trials must be those of the search that was left alone: as many,
with the same values and accuracy, and each with the same metrics.csv to the last byte.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sqznet.core import console

SIGNALS = ("KILL", "TERM", "INT")
TRIALS, EPOCHS = 2, 2
GONE_WITHIN = 600  # seconds until a trial has finished its call of steps, saved its state and ended
RECIPE = {
    "name": "tiny", "arch": "v1.1", "image_size": 32, "resize_to": 32, "total_steps": None, "epochs": EPOCHS,
    "milestones": [1], "global_batch_size": 20, "steps_per_call": 1,
}  # fmt: skip
SPACE = {"learning_rate": {"min": 1e-3, "max": 1e-2, "scale": "log"}}


def prepare(folder: Path) -> list[str]:
    """Draws and builds a set; the flags of a search on it."""
    from tests import conftest

    conftest.COUNTS.update(train=20, val=6, test=3)
    conftest.draw_photographs(folder / "photos")
    conftest.build_set(f"folder:{folder / 'photos'}", folder / "set", shard_records=8)
    for name, content in (("recipe", RECIPE), ("space", SPACE)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [
        f"--data={folder / 'set'}", f"--recipe={folder / 'recipe.json'}", f"--space={folder / 'space.json'}",
        f"--trials={TRIALS}", "--tuner=random", "--strategy=one", "--no-compare",
    ]  # fmt: skip


def start(flags: list[str], out: Path) -> subprocess.Popen:
    with out.with_name(f"{out.name}.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "sqznet.tune", *flags, f"--out={out}"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def processes_of(out: Path) -> list[str]:
    """The command lines of processes that work in the folder of a search: the search and its trial."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            line = path.read_bytes().decode(errors="replace").replace("\0", " ").strip()
            if str(out) in line and int(path.parent.name) != os.getpid():
                lines.append(line)
    return lines


def await_none(out: Path) -> float:
    """Returns the seconds until no process of a search is left."""
    began = time.monotonic()
    while left := processes_of(out):
        assert time.monotonic() - began < GONE_WITHIN, f"left: {left}"
        time.sleep(0.05)
    return time.monotonic() - began


def result(out: Path) -> dict[str, tuple]:
    """Of each trial its values, accuracy and epochs, and the bytes of metrics.csv."""
    from sqznet.runs import history
    from sqznet.tune import search

    found = {}
    for trial in search.finished(out):
        run_dir = search.run_dir_of(out, trial.name)
        epochs = [line["epoch"] for line in history.read(run_dir).metrics]
        assert epochs == list(range(1, EPOCHS + 1)), f"{run_dir} has epochs {epochs}"
        metrics = (run_dir / "metrics.csv").read_bytes()
        found[trial.name] = (tuple(sorted(trial.values.items())), trial.top1, trial.epochs, metrics)
    run_dirs = {path.name for path in (out / search.PROJECT).glob("run_*")}
    assert run_dirs == {f"run_{name}" for name in found}, f"{run_dirs} for {sorted(found)}"
    oracle = json.loads((out / search.PROJECT / "oracle.json").read_text())
    assert sorted(oracle["end_order"]) == sorted(oracle["start_order"]) == sorted(found), oracle
    return found


def finish(flags: list[str], out: Path) -> dict[str, tuple]:
    code = start(flags, out).wait()
    assert code == 0, f"ended with {code}: see {out}.txt: {out.with_name(f'{out.name}.txt').read_text()[-3000:]}"
    await_none(out)
    return result(out)


def torture(folder: Path, moments: int, signals: list[str], seed: int = 0) -> dict[str, Counter[str]]:
    """Runs it all in `folder`; raises AssertionError where something is left, lost or doubled. Counts what happened."""
    flags = prepare(folder)
    began = time.monotonic()
    whole = finish(flags, folder / "whole")
    span = time.monotonic() - began
    assert len(whole) == TRIALS and all(top1 is not None for _, top1, _, _ in whole.values()), whole
    console.say(f"left alone, the search took {span:.0f} s")
    return {name: _stopped(flags, folder / name, moments, name, span, whole, random.Random(seed)) for name in signals}


def _stopped(
    flags: list[str],
    folder: Path,
    moments: int,
    signal_name: str,
    span: float,
    whole: dict[str, tuple],
    rng: random.Random,
) -> Counter[str]:
    """A search that gets a signal at so many moments, and then comes to its end."""
    number, counts, searches = signal.Signals[f"SIG{signal_name}"], Counter[str](), 1
    folder.mkdir()
    out = folder / "search-1"
    for moment in range(moments):
        search = start(flags, out)
        # Each start takes the time of importing; the trials go on from where they were.
        with contextlib.suppress(subprocess.TimeoutExpired):
            search.wait(timeout=rng.uniform(0, 0.6 * span))
        if search.poll() is None:
            (os.killpg if number == signal.SIGINT else os.kill)(search.pid, number)
            counts["stopped"] += 1
            code = search.wait(timeout=GONE_WITHIN)
            assert code in (-number, 128 + number), f"ended with {code}: see {out}.txt"
            if number == signal.SIGKILL and rng.random() < 0.5:
                counts["started again at once"] += 1
            else:
                counts["slowest end, s"] = max(counts["slowest end, s"], round(await_none(out)))
        elif search.returncode == 0:  # it has come to its end: another one
            assert result(out) == whole
            counts["finished before the moment"] += 1
            searches += 1
            out = folder / f"search-{searches}"
        console.say(f"SIG{signal_name}, moment {moment + 1}: {dict(counts)}")
    assert finish(flags, out) == whole
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kill_search", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--signal", action="append", choices=SIGNALS, help="may be given more than once; default all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    # Of a shell's job in the background SIGINT is ignored, and so it would be in the searches.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        stopped = torture(Path(folder), args.moments, args.signal or list(SIGNALS), args.seed)
    for name, counts in stopped.items():
        console.result(f"SIG{name}: {dict(counts)}; nothing was left, lost or doubled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
