"""Finds the machines that train together: from flags, TF_CONFIG or Slurm. Worker 0 is the chief, which writes files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from sqznet.core import console, typed
from sqznet.core.errors import InputError, TryAgain

SLURM_PORT = 8_888
START_TIMEOUT = 600  # seconds until all workers must have started; machines of a cluster start minutes apart
LOST_AFTER = 20  # seconds without an answer after which a worker counts as lost
_EXPECTED = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    workers: tuple[str, ...]  # host:port each
    index: int  # of this process

    def set_up(self) -> None:
        """Sets TF_CONFIG, which TensorFlow reads."""
        task = {"type": "worker", "index": self.index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})

    @contextlib.contextmanager
    def waiting_for_all(self) -> Iterator[None]:
        """Prints which workers are missing while TensorFlow, in the block, waits for all workers without a time limit.

        Ends the process if a worker does not start or is lost: the waiting thread cannot be interrupted otherwise.
        """
        all_here = threading.Event()
        others = {number: where for number, where in enumerate(self.workers) if number != self.index}

        def watch() -> None:
            started = said = time.monotonic()
            seen: dict[int, float] = {}
            while not all_here.wait(2):
                seen |= {number: time.monotonic() for number, where in others.items() if _answers(where)}
                now = time.monotonic()
                missing = [number for number in others if number not in seen]
                gone = [number for number, when in seen.items() if now - when > LOST_AFTER]
                if gone or (missing and now - started > START_TIMEOUT):
                    number = (gone or missing)[0]
                    what = "is lost: it no longer answers" if gone else f"has not started within {START_TIMEOUT} s"
                    console.say(
                        f"error: worker {number} ({others[number]}) {what}. Start all workers again with --resume"
                    )
                    os._exit(TryAgain.exit_code)
                if missing and now - said > 30:
                    said = now
                    names = ", ".join(f"{number} ({others[number]})" for number in missing)
                    console.say(f"still waiting for worker {names}")

        console.say(f"worker {self.index} of {', '.join(self.workers)}; waiting for all of them")
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            all_here.set()

    def lost_worker(self, error: tf.errors.OpError) -> int | None:
        """Returns the index of the lost worker that caused an error of a collective operation, or None.

        TensorFlow names a worker whose connection or heartbeat is lost, except the chief, which keeps their list.
        """
        if not isinstance(error, tf.errors.UnavailableError | tf.errors.DeadlineExceededError | tf.errors.AbortedError):
            return None
        named = [int(number) for number in re.findall(r"task:(\d+)", str(error))]
        return next((number for number in reversed(named) if number != self.index), 0)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def find(workers: str | None, worker_index: int | None) -> Cluster:
    """Finds the cluster from flags (`host:port,host:port` and the index of this worker), else TF_CONFIG, else Slurm.

    Raises:
        InputError: there is no cluster, or its description is wrong.
    """
    if workers is not None or worker_index is not None:
        if workers is None or worker_index is None:
            raise InputError("--workers=host:port,... and --worker_index=N go together")
        return _checked(tuple(workers.split(",")), worker_index, f"--workers={workers} --worker_index={worker_index}")
    if os.environ.get("TF_CONFIG"):
        return _from_tf_config(os.environ["TF_CONFIG"])
    if "SLURM_PROCID" in os.environ:
        return _from_slurm()
    raise InputError(
        "--strategy=multiworker needs the list of machines: give --workers=host:port,... and --worker_index=N, or set "
        f"TF_CONFIG to {_EXPECTED}, or start it with srun. On one machine: python -m sqznet.launch --workers=2"
    )


def _from_tf_config(text: str) -> Cluster:
    try:
        config = typed.parse_json(text, "the value")
        typed.require(config, {"cluster": dict, "task": dict}, "the value")
        cluster, task = config["cluster"], config["task"]
        if set(cluster) != {"worker"} or task.get("type") != "worker":
            raise InputError("only tasks of type worker are supported")
        typed.require({"cluster.worker": cluster["worker"]}, {"cluster.worker": list[str]}, "the value")
        typed.require({f"task.{name}": each for name, each in task.items()}, {"task.index": int}, "the value")
    except InputError as error:
        raise InputError(f"TF_CONFIG is {text!r} ({error}); expected {_EXPECTED}") from None
    return _checked(tuple(cluster["worker"]), task["index"], f"TF_CONFIG={text}")


def _from_slurm() -> Cluster:
    """Returns the cluster of a task of srun. The tasks of a node get the ports SLURM_PORT, SLURM_PORT + 1, ..."""
    try:
        # Each task uses the GPUs that it sees. The numbers keep the resolver from calling nvidia-smi, which may be
        # missing.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=SLURM_PORT, auto_set_gpu=False, gpus_per_node=2**16, gpus_per_task=1
        )
        workers = tuple(resolver.cluster_spec().as_dict()["worker"])
        index = int(os.environ["SLURM_PROCID"])
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"Slurm's variables do not name a cluster ({type(error).__name__}: {error})") from None
    return _checked(workers, index, f"Slurm's {','.join(workers)}, task {index}")


def _checked(workers: tuple[str, ...], index: int, where: str) -> Cluster:
    if not workers:
        raise InputError(f"{where}: it lists no worker; expected host:port of each")
    for worker in workers:
        host, _, port = worker.rpartition(":")
        if not re.fullmatch(r"[^\s;,]+", host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise InputError(f"{where}: {worker!r} is not host:port; expected host:port,host:port without blanks")
    if len(set(workers)) != len(workers):
        raise InputError(f"{where}: a worker is named twice")
    if not 0 <= index < len(workers):
        raise InputError(f"{where}: the worker's number is 0 to {len(workers) - 1}, not {index!r}")
    return Cluster(workers, index)
