"""Measures how long each command prints nothing: the first commands of a user with photographs, timed from outside.

  python -m benchmarks.experiments.silence --photos=photos --weights=squeezenet-v1.1
      on a pseudo-terminal, where progress bars are drawn
  python -m benchmarks.experiments.silence --photos=photos --weights=squeezenet-v1.1 --no-terminal
      on a pipe, as when the output goes to a log file

Runs each command in --work (a new folder), and prints a table: seconds from the start to the first character, to the
first step or record that is counted, to the end, and the longest time without a character. The time after the last
character counts as well. These are wall times, so they depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sqznet.core import console

READ = 65536
# A count above 0: "16/128" on a bar, "16 of 128" in a log.
STEP = re.compile(rb"(?<![\d.])[1-9][\d,]*(?:/| of )[1-9][\d,]*")


@dataclass(frozen=True)
class Times:
    first: float  # seconds to the first character; the length of the run if there was none
    step: float | None  # to the first count above 0
    end: float
    silence: float  # the longest
    processor: float  # seconds of all cores together, which do not depend on what else the machine does
    code: int


def measure(command: list[str], folder: Path, terminal: bool, until: bytes | None = None) -> Times:
    """Runs a command, and measures when it prints something.

    Args:
        until: text in the output after which the command is ended, for one that does not end by itself.
    """
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": str(Path.cwd())}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    heard, first, step, silence, output = started, None, None, 0.0, b""
    while True:
        ready, _, _ = select.select([ours], [], [], 0.05)
        now = time.monotonic()
        try:
            part = os.read(ours, READ) if ready else None
        except OSError:  # the other end of the pseudo-terminal is closed
            part = b""
        if part == b"":
            break
        if part:
            silence, heard, output = max(silence, now - heard), now, output + part
            first = first or now - started
            if step is None and STEP.search(output):
                step = now - started
            if until and until in output:
                process.send_signal(signal.SIGTERM)  # SIGINT is ignored in a background job
                until = None
    _, status, usage = os.wait4(process.pid, 0)
    os.close(ours)
    end = time.monotonic() - started
    silence = max(silence, time.monotonic() - heard)
    code = os.waitstatus_to_exitcode(status)
    return Times(first or end, step, end, silence, usage.ru_utime + usage.ru_stime, code)


def commands(photos: Path, weights: str) -> list[tuple[str, list[str], bytes | None]]:
    data, run, bundle = "--data=set", "runs/tuned", "bundle"
    finetune = ["--recipe=finetune", f"--init_weights={weights}"]
    every = ["--format=all", "--quantize=all"]
    search = [data, "--recipe=imagenette", "--epochs=2", "--trials=2", "--tuner=random", "--space=rates"]
    return [
        ("data", ["sqznet.data", f"--source=folder:{photos}", "--out=set"], None),
        ("train, finetune", ["sqznet.train", data, *finetune, f"--run_dir={run}"], None),
        ("train, imagenette, 2 epochs", ["sqznet.train", data, "--recipe=imagenette", "--epochs=2"], None),
        ("evaluate", ["sqznet.evaluate", f"--model={run}"], None),
        ("predict", ["sqznet.predict", f"--model={run}", str(photos), "--picture=sheet.png"], None),
        ("export, all, int8", ["sqznet.export", f"--model={run}", *every, f"--out={bundle}"], None),
        ("compress", ["sqznet.compress", f"--model={run}", "--target=300kB", "--points=2"], None),
        ("tune, 2 trials", ["sqznet.tune", *search, "--no-compare", "--out=tuning"], None),
        ("runs", ["sqznet.runs"], None),
        ("serve, to its address", ["sqznet.serve", f"--model={bundle}", "--port=0"], b"http://"),
        ("benchmark infer", ["sqznet.benchmark", "--what=infer", f"--model={bundle}", "--runs=10"], None),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of classes")
    parser.add_argument("--weights", default="squeezenet-v1.1", help="published weights, by name or path")
    parser.add_argument("--work", type=Path, help="folder for what is written; default a temporary one")
    parser.add_argument("--terminal", action=argparse.BooleanOptionalAction, default=True, help="on a pseudo-terminal")
    parser.add_argument("--only", help="a command's name, such as data")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="silence-"))
    work.mkdir(parents=True, exist_ok=True)
    weights = str(Path(args.weights).absolute()) if Path(args.weights).exists() else args.weights
    rows = []
    for name, command, until in commands(args.photos.absolute(), weights):
        if args.only and name.split(",")[0].split()[0] != args.only:
            continue
        console.say(f"python -m {' '.join(command)}")
        times = measure(command, work, args.terminal, until)
        step = "-" if times.step is None else f"{times.step:.1f}"
        rows.append(
            [
                name,
                f"{times.first:.2f}",
                step,
                f"{times.end:.1f}",
                f"{times.silence:.1f}",
                f"{times.processor:.0f}",
                times.code,
            ]
        )
        console.say("  ".join(map(str, rows[-1])))
    columns = [
        "command",
        "first output, s",
        "first step, s",
        "end, s",
        "longest silence, s",
        "processor s",
        "exit code",
    ]
    console.table(columns, rows, title="terminal" if args.terminal else "no terminal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
