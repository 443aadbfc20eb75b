"""Runs the processes of a cluster on one machine: workers that train, and a data service that decodes photographs."""

from __future__ import annotations

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

from sqznet.core import child, console, locks
from sqznet.core.errors import TryAgain
from sqznet.runs import run_folder

PORTS = range(20_000, 30_000)  # below the range that systems use for outgoing connections
GRACE = 30  # seconds for the other processes to save their state after one has failed


def commands(workers: int, data_workers: int, train_flags: list[str]) -> dict[str, list[str]]:
    """Returns the module and the flags of each process, by the name of the process."""
    ports = free_ports(workers + 1)
    made = {}
    train = ["sqznet.train"]
    if data_workers:
        dispatcher = f"127.0.0.1:{ports.pop()}"
        made["dispatcher"] = ["sqznet.data.service", f"--listen={dispatcher}"]
        for index in range(data_workers):
            made[f"data worker {index}"] = ["sqznet.data.service", f"--dispatcher={dispatcher}"]
        train.append(f"--data_service=grpc://{dispatcher}")
    if workers == 1:
        return made | {"worker 0": [*train, *train_flags]}
    if not any(flag.startswith(("--run_dir", "--resume")) for flag in train_flags):
        # All workers need the same folder. Otherwise each worker would name a folder by its own clock.
        train.append(f"--run_dir={run_folder.new(f'{workers}-workers')}")
    train += ["--strategy=multiworker", "--workers=" + ",".join(f"127.0.0.1:{port}" for port in ports[:workers])]
    return made | {f"worker {index}": [*train, f"--worker_index={index}", *train_flags] for index in range(workers)}


_ports = contextlib.ExitStack()  # holds the locks of the ports that this process uses


def free_ports(count: int) -> list[int]:
    """Returns ports that are free now. Locks reserve these ports for this process until it ends."""
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
    """Runs modules with their flags until all workers have ended or one process has failed.

    Returns:
        0, or the exit code of the first process that failed (128 + N: ended by signal N).
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    processes: dict[str, subprocess.Popen[str]] = {}
    workers: list[subprocess.Popen] = []
    # Ctrl-C and SIGTERM go to the workers, which save their state. The data service ends after the workers.
    with child.forwarding_signals(workers) as asked:
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
    """Waits until all workers have ended, or GRACE seconds after the first failure. Returns the exit code."""
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
