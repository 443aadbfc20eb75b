"""Start a cluster on this machine, for trying it out before paying for one.

  python -m sqznet.launch --workers=2 -- --data=data/shards --recipe=imagenette
      two processes that train together, as two machines would with --strategy=multiworker
  python -m sqznet.launch --data_workers=2 -- --data=data/shards
      one process that trains, and two that decode its photographs (TensorFlow's data service)

What follows `--` goes to sqznet.train. Lines begin with the process that they come from. When one process fails the
others are ended, and the exit code is its own; the same command with --resume among the training flags goes on. When
this process is gone, also after a SIGKILL, the workers save their state and end.
The processes meet on 127.0.0.1, but TensorFlow's servers take connections from any address: mind open networks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from sqznet.core import child, cli, console, locks
from sqznet.core.errors import TryAgain
from sqznet.runs import run_folder

PORTS = range(20_000, 30_000)  # below those that systems give to outgoing connections
GRACE = 30  # seconds for the others to notice, save and say so when one process has failed


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.launch", __doc__)
    parser.add_argument("--workers", type=cli.positive, default=1, help="processes that train together")
    parser.add_argument("--data_workers", type=cli.whole, default=0, help="processes that decode photographs")
    parser.add_argument("train_flags", nargs="*", metavar="-- FLAGS", help="flags of sqznet.train")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    ports = free_ports(args.workers + 1)
    commands = {}
    train = ["sqznet.train"]
    if args.data_workers:
        dispatcher = f"127.0.0.1:{ports.pop()}"
        service = ["sqznet.data.service"]
        commands["dispatcher"] = [*service, f"--listen={dispatcher}"]
        for index in range(args.data_workers):
            commands[f"data worker {index}"] = [*service, f"--dispatcher={dispatcher}"]
        train.append(f"--data_service=grpc://{dispatcher}")
    if args.workers == 1:
        commands["worker 0"] = [*train, *args.train_flags]
    else:
        if not any(flag.startswith(("--run_dir", "--resume")) for flag in args.train_flags):
            # Each worker would name one by its own clock.
            train.append(f"--run_dir={run_folder.new(f'{args.workers}-workers')}")
        together = ",".join(f"127.0.0.1:{port}" for port in ports[: args.workers])
        for index in range(args.workers):
            cluster = ["--strategy=multiworker", f"--workers={together}", f"--worker_index={index}"]
            commands[f"worker {index}"] = [*train, *cluster, *args.train_flags]
    return run(commands)


_ports = contextlib.ExitStack()  # the locks of the ports that this process has been given


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, and that no other process gets from here before this one ends."""
    folder = Path(tempfile.gettempdir()) / f"sqznet-ports-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            return found
        with contextlib.suppress(OSError, locks.Held), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            _ports.enter_context(locks.locked(folder / f"{port}.lock", wait=False))
            found.append(port)
    raise TryAgain(
        f"{count} free ports are needed, and of {PORTS.start} to {PORTS.stop - 1} only {len(found)} are free"
    )


def run(commands: dict[str, list[str]]) -> int:
    """Runs modules with their flags, by name, until all workers are through or one has failed.

    Returns:
        0, or the exit code of the first that failed (128 and more: ended by that signal).
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    processes: dict[str, subprocess.Popen[str]] = {}
    workers: list[subprocess.Popen] = []
    # Ctrl-C and SIGTERM let the workers save; the data service has nothing to save and is ended after them.
    with child.passing_on_signals(workers) as asked:
        try:
            for name, (module, *flags) in commands.items():
                if asked:
                    break
                processes[name] = child.start(
                    module, flags, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    errors="replace",
                )  # fmt: skip
                if name.startswith("worker"):
                    workers.append(processes[name])
            readers = [threading.Thread(target=_relay, args=item, daemon=True) for item in processes.items()]
            for reader in readers:
                reader.start()
            code = _wait(processes)
        finally:
            _end(processes)
    for reader in readers:
        reader.join(timeout=5)
    return code or (128 + asked[0] if asked else 0)


def _relay(name: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            console.say(f"[{name}] {line.rstrip()}")


def _wait(processes: dict[str, subprocess.Popen[str]]) -> int:
    """Until all workers are through, or GRACE after the first process that failed."""
    failed, deadline = 0, float("inf")
    while time.monotonic() < deadline:
        codes = {name: process.poll() for name, process in processes.items()}
        for name, code in codes.items():
            if code and not failed:
                failed, deadline = (128 - code if code < 0 else code), time.monotonic() + GRACE
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                console.say(f"{name} {how}; waiting up to {GRACE} s for the others")
        if all(code is not None for name, code in codes.items() if name.startswith("worker")):
            break
        time.sleep(0.1)
    return failed


def _end(processes: dict[str, subprocess.Popen[str]]) -> None:
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + 15
    for name, process in processes.items():
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            console.say(f"{name} does not end; killing it")
            process.kill()


if __name__ == "__main__":
    cli.run(main)
