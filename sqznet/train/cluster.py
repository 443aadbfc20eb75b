"""Which machines train together: from flags, from TF_CONFIG, or from Slurm. Worker 0 is the chief, which writes."""

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
from typing import TYPE_CHECKING

from sqznet.core import console, typed
from sqznet.core.errors import InputError, TryAgain

if TYPE_CHECKING:
    import tensorflow as tf

SLURM_PORT = 8_888
COME_WITHIN = 600  # seconds for all workers to be there; machines of a cluster start minutes apart
GONE_AFTER = 20  # seconds without an answer from one that was there
_EXPECTED = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    workers: tuple[str, ...]  # host:port each
    index: int  # of this process

    def set_up(self) -> None:
        """Tells TensorFlow, which reads TF_CONFIG."""
        task = {"type": "worker", "index": self.index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Around the making of the strategy, in which TensorFlow waits for all workers, for ever and without a word.

        Ends the process if one does not come, or goes again: nothing else gets through to the thread that waits.
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
                gone = [number for number, when in seen.items() if now - when > GONE_AFTER]
                if gone or (missing and now - started > COME_WITHIN):
                    number = (gone or missing)[0]
                    what = "is lost: it no longer answers" if gone else f"has not come within {COME_WITHIN} s"
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
        """The worker that an error of a collective operation says is gone; None if it says something else.

        TensorFlow tells which one a connection or a heartbeat was missed from, but not that the chief, which holds the
        list of who is alive, no longer answers.
        """
        import tensorflow as tf

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
    """The cluster that flags name (`host:port,host:port` and this one's number), else TF_CONFIG, else Slurm.

    Raises:
        InputError: there is none, or it makes no sense.
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
        "--strategy=multiworker needs to know the machines: give --workers=host:port,... and --worker_index=N, or set "
        f"TF_CONFIG to {_EXPECTED}, or start it with srun. On one machine: python -m sqznet.launch --workers=2"
    )


def _from_tf_config(text: str) -> Cluster:
    try:
        config = typed.parse_json(text, "the value")
        typed.require(config, {"cluster": dict, "task": dict}, "the value")
        cluster, task = config["cluster"], config["task"]
        if set(cluster) != {"worker"} or task.get("type") != "worker":
            raise InputError("only workers are known here, the first of which is the chief")
        typed.require({"cluster.worker": cluster["worker"]}, {"cluster.worker": list[str]}, "the value")
        typed.require({f"task.{name}": each for name, each in task.items()}, {"task.index": int}, "the value")
    except InputError as error:
        raise InputError(f"TF_CONFIG is {text!r} ({error}); expected {_EXPECTED}") from None
    return _checked(tuple(cluster["worker"]), task["index"], f"TF_CONFIG={text}")


def _from_slurm() -> Cluster:
    """A task of srun, one a node or more; tasks of one node get ports SLURM_PORT, SLURM_PORT + 1, ..."""
    import tensorflow as tf

    try:
        # Each task takes the GPUs that it sees. Without numbers the resolver would ask nvidia-smi, which need not be
        # there; with these, no node has more tasks than GPUs.
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
        raise InputError(f"{where}: there is no worker in it; expected host:port of each")
    for worker in workers:
        host, _, port = worker.rpartition(":")
        if not re.fullmatch(r"[^\s;,]+", host) or not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
            raise InputError(f"{where}: {worker!r} is not host:port; expected host:port,host:port without blanks")
    if len(set(workers)) != len(workers):
        raise InputError(f"{where}: a worker is named twice")
    if not 0 <= index < len(workers):
        raise InputError(f"{where}: the worker's number is 0 to {len(workers) - 1}, not {index!r}")
    return Cluster(workers, index)
