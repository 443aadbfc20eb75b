"""Kills a training run repeatedly, and compares the result with an uninterrupted run.

  python -m tests.torture --kills=50
  python -m tests.torture --kills=20 --workers=2

Every kill is a SIGKILL: at a random step, while a checkpoint is being written, or while the process is starting. The
run continues with `--resume`. In the end its weights, optimizer slots and metrics.csv must be bit-identical to those of
the uninterrupted run. Its steps must have used the same records, each once in every epoch. With several workers one of
them is killed, and the others must end by themselves within 60 seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from sqznet.core import console
from sqznet.launch import local_cluster

BATCH = 8
FLAGS = [
    "--recipe=imagenette", "--image_size=32", f"--global_batch_size={BATCH}", "--dropout=0.3",
    "--learning_rate=0.005", "--warmup_epochs=1", "--steps_per_call=2", "--save_minutes=0", "--resume",
]  # fmt: skip
LOST_WITHIN = 60  # seconds in which the remaining workers must end
_START = b"== start\n"
_RECORD = np.dtype([("epoch", "<i8"), ("place", "<i8"), ("shard", "<i8"), ("number", "<i8")])


def child(order_log: Path, argv: list[str]) -> int:
    """Runs sqznet.train, and writes the order of its records to `order_log`, one file for each start."""
    from sqznet.core import startup
    from sqznet.train import __main__ as train

    startup.load_tensorflow()
    import tensorflow as tf

    from sqznet.data import pipeline

    real = pipeline.order

    def logged_order(manifest, schedule, start_step=0):
        path = order_log / f"from-{start_step:06d}-{time.time_ns()}"
        order_log.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)

        def write(*fields):
            file.write(np.array(fields, np.int64).tobytes())
            return np.int64(0)

        def log(*element):
            with tf.control_dependencies([tf.numpy_function(write, element[:4], tf.int64)]):
                return tuple(tf.identity(each) for each in element)

        return real(manifest, schedule, start_step).map(log, num_parallel_calls=1, deterministic=True)

    pipeline.order = logged_order
    return train.main(argv)


def start(data: Path, run_dir: Path, workers: int, epochs: int) -> list[subprocess.Popen]:
    addresses = ",".join(f"127.0.0.1:{port}" for port in local_cluster.free_ports(workers))
    processes = []
    for index in range(workers):
        cluster = ["--strategy=one"]
        if workers > 1:
            cluster = ["--strategy=multiworker", f"--workers={addresses}", f"--worker_index={index}"]
        log = run_dir.with_name(f"{run_dir.name}-order-{index}")
        command = [sys.executable, "-m", "tests.torture", f"--child={log}", "--", *FLAGS, *cluster]
        with run_dir.with_name(f"{run_dir.name}-{index}.txt").open("ab", buffering=0) as output:
            output.write(_START)
            processes.append(
                subprocess.Popen(
                    [*command, f"--epochs={epochs}", f"--data={data}", f"--run_dir={run_dir}"],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    return processes


def last_step(run_dir: Path) -> int:
    from sqznet.runs import checkpoint

    return (checkpoint.steps(run_dir) or [0])[-1]


def has_met_the_others(run_dir: Path, worker: int) -> bool:
    """Whether the last start of this worker has joined the cluster."""
    said = run_dir.with_name(f"{run_dir.name}-{worker}.txt").read_text()
    return "SqueezeNet v1.1" in said.rpartition(_START.decode())[2]


def kill_one(processes: list[subprocess.Popen], run_dir: Path, target: int, rng: random.Random) -> str:
    """Waits for a random time and kills one process. Returns what it was doing."""
    way = rng.choice(["at a step", "at a step", "while writing", "while starting"])
    if way == "while starting":
        time.sleep(rng.uniform(0, 8))
    else:
        while last_step(run_dir) < target:
            assert processes[0].poll() is None, f"ended by itself: see {run_dir}-0.txt"
            time.sleep(0.002)
        if way == "while writing":
            while not list((run_dir / "checkpoints").glob(".tmp-*")) and processes[0].poll() is None:
                pass
        else:
            time.sleep(rng.uniform(0, 0.3))
    victim = rng.choice(processes) if way != "while writing" else processes[0]
    if victim.poll() is not None:
        return "missed"
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    return way


def records_of_steps(run_dir: Path, worker: int, total_steps: int) -> np.ndarray:
    """The records of all steps in the final result: from each start, those before the first step of the next start.

    A later start repeats the steps whose results were lost.
    """
    logs = sorted(
        run_dir.with_name(f"{run_dir.name}-order-{worker}").glob("from-*"), key=lambda path: path.name.split("-")[2]
    )
    begins = [int(path.name.split("-")[1]) for path in logs]
    kept = np.zeros(0, _RECORD)
    for path, begin in zip(logs, begins, strict=True):
        content = path.read_bytes()
        read = np.frombuffer(content[: len(content) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)
        assert begin * BATCH <= len(kept), f"{path}: records before step {begin} are missing"
        kept = np.concatenate([kept[: begin * BATCH], read])
    return kept[: total_steps * BATCH]


def torture(data: Path, folder: Path, kills: int, *, workers: int = 1, epochs: int = 20, seed: int = 0) -> Counter[str]:
    """Runs the test in `folder`, and counts the kinds of kills. Raises AssertionError if the runs differ."""
    from sqznet.data import manifest
    from sqznet.runs import checkpoint

    shard_set = manifest.load(data)
    count = shard_set.records("train")
    total_steps = -(-epochs * count // BATCH)
    whole, killed = folder / "whole", folder / "killed"
    for process in start(data, whole, workers, epochs):
        assert process.wait() == 0, f"see {whole}-0.txt"

    rng, ways = random.Random(seed), Counter[str]()
    targets = iter(sorted(rng.sample(range(1, total_steps * 4 // 5), kills)))
    with console.progress("kills/s") as bar:
        task = bar.add_task("killing", total=kills)
        for target in targets:
            processes = start(data, killed, workers, epochs)
            way = kill_one(processes, killed, target, rng)
            ways[way] += 1
            since = time.monotonic()
            for index, process in enumerate(processes):
                if workers > 1 and not has_met_the_others(killed, index):
                    process.kill()  # as sqznet.launch does: workers wait long for one that has not started
                try:
                    code = process.wait(timeout=LOST_WITHIN)
                except subprocess.TimeoutExpired:
                    process.kill()
                    said = killed.with_name(f"{killed.name}-{index}.txt").read_text()[-3000:]
                    raise AssertionError(f"worker {index} did not notice in {LOST_WITHIN} s: {said}") from None
                assert code in (-signal.SIGKILL, 1), f"ended with {code}: see {killed}-*.txt"
            if workers > 1:
                ways["slowest end, s"] = max(ways["slowest end, s"], round(time.monotonic() - since))
            bar.advance(task)
    for process in start(data, killed, workers, epochs):
        assert process.wait() == 0, f"see {killed}-0.txt"

    _, arrays, progress = checkpoint.load_last(killed)
    _, expected, expected_progress = checkpoint.load_last(whole)
    assert progress["step"] == expected_progress["step"] == total_steps
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        assert array.tobytes() == arrays[name].tobytes(), f"{name} differs"
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes(), "metrics.csv differs"
    for worker in range(workers):
        order = records_of_steps(killed, worker, total_steps)
        assert order.tobytes() == records_of_steps(whole, worker, total_steps).tobytes(), "the order differs"
        for epoch in range(epochs):
            of_epoch = order[order["epoch"] == epoch]
            assert len(of_epoch) == count, f"epoch {epoch} has {len(of_epoch)} of {count} records"
            assert len(np.unique(of_epoch[["shard", "number"]])) == count, f"epoch {epoch} repeats a record"
    return ways


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__, allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child, args.flags)
    from sqznet.core import startup

    startup.load_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "set"
        make_set(data)
        started = time.monotonic()
        ways = torture(data, Path(folder), args.kills, workers=args.workers, seed=args.seed)
    console.table(["kill", "times"], [*ways.items(), ("in all", args.kills)])
    console.result(
        f"weights, optimizer, metrics.csv and order equal the uninterrupted run's, bit by bit; no record lost or "
        f"repeated ({time.monotonic() - started:.0f} s)"
    )
    return 0


def make_set(out: Path, records: int = 115) -> None:
    """Writes shards of drawings; the number of records is not a multiple of the batch size."""
    from sqznet.data.sources import synthetic
    from tests.conftest import build_set

    photographs = out.with_name("photographs")
    for split, count in (("train", records), ("val", 20)):
        for index in range(count):
            name = synthetic.CLASSES[index % 3]
            path = photographs / split / name / f"{index:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(synthetic.draw(f"{split}/{index}", synthetic.CLASSES.index(name), seed=0))
    build_set(f"folder:{photographs}", out)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
