"""Measures the latency and the memory of a model file for one photograph, in its own process.

  python -m sqznet.predict.latency export/artifacts/NAME/model.tflite 2 50
      prints one line of JSON: 50 runs with 2 threads

Each file and number of threads needs its own process, because runtimes keep their threads and memory, and the peak
memory of a process never falls. `python -m sqznet.benchmark` starts these processes and prints a table.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError
from sqznet.predict import inference

WARM_UP = 5  # runs that are not counted: runtimes pack weights and reserve memory in the first ones
_RUNTIME_MODULES = {".tflite": "ai_edge_litert.interpreter", ".onnx": "onnxruntime"}  # other files: TensorFlow
GOLDEN = Path("golden/inputs.bin")  # of a bundle, uint8 (n, size, size, 3)
MIB = 1024**2


@dataclass(frozen=True)
class Timing:
    """Latency and memory of one file with one number of threads, one photograph at a time, on the processor."""

    median_ms: float  # uint8 pixels in, probabilities out
    p90_ms: float
    peak_mib: float  # growth of the peak memory: runtime, file and runs together
    runtime_mib: float  # the part of importing the runtime, the same for all files


def measure(path: Path, threads: tuple[int, ...] = (1, 2), runs: int = 30) -> dict[str, Any]:
    """Returns the latency entry of a file in manifest.json: {"1": {"median_ms", "p90_ms"}, "2": ..., "peak_mib"}.

    Raises:
        InputError: a process failed. The error contains its last message.
    """
    timings = {count: in_own_process(path, count, runs) for count in threads}
    latency: dict[str, Any] = {
        str(count): {"median_ms": timing.median_ms, "p90_ms": timing.p90_ms} for count, timing in timings.items()
    }
    latency["peak_mib"] = max(timing.peak_mib for timing in timings.values())
    return latency


def in_own_process(path: Path, threads: int, runs: int) -> Timing:
    """Runs `measure_here` in a new process.

    Raises:
        InputError: the process failed. The error contains its last message.
    """
    command = [sys.executable, "-m", "sqznet.predict.latency", str(path), str(threads), str(runs)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # phones have none of these
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}, without a message"]
        raise InputError(f"cannot measure {path} with threads {threads}: {said[-1].removeprefix('error: ')}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(path: Path, threads: int, runs: int) -> Timing:
    """Measures a file in this process, which should be new.

    Raises:
        InputError: there is no such model, or the golden inputs have another size.
    """
    golden = path.parent / GOLDEN
    pixels = np.fromfile(golden, np.uint8) if golden.is_file() else None
    before = peak_bytes()
    _import_runtime(path, threads)
    imported = peak_bytes()
    predictor = inference.load(path, threads=threads)
    images = _images(pixels, predictor.runtime.image_size, golden)
    milliseconds = _time(predictor.predict, images, runs)
    return Timing(
        median_ms=round(float(np.median(milliseconds)), 3),
        p90_ms=round(float(np.percentile(milliseconds, 90)), 3),
        peak_mib=round((peak_bytes() - before) / MIB, 1),
        runtime_mib=round((imported - before) / MIB, 1),
    )


def _import_runtime(path: Path, threads: int) -> None:
    module = _RUNTIME_MODULES.get(path.suffix)
    if module is not None:
        importlib.import_module(module)
        return
    startup.load_tensorflow()
    import tensorflow as tf

    # Other runtimes get their threads when they load a file. TensorFlow's threads can be set before its first operation
    # only.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _images(pixels: np.ndarray | None, size: int, golden: Path) -> np.ndarray:
    """Returns the golden inputs of the bundle, or one image of random pixels: uint8 (n, size, size, 3)."""
    if pixels is None:
        return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    if not pixels.size or pixels.size % (size * size * 3):
        raise InputError(
            f"{golden} has {pixels.size:,} bytes; expected a multiple of {size} x {size} x 3: it belongs to another "
            "model; export again"
        )
    return pixels.reshape(-1, size, size, 3)


def _time(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, runs: int) -> list[float]:
    """Measures the milliseconds of each run after the warm-up. Each run takes one image."""
    taken = []
    for run in range(WARM_UP + runs):
        image = images[run % len(images)][None]  # (1, size, size, 3)
        start = time.perf_counter_ns()
        predict(image)
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return taken[WARM_UP:]


def peak_bytes() -> int:
    """Returns the peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage is not used: on Linux its peak starts at the peak of the parent process.
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """Returns the name of this machine's processor, with the number of cores that this process may use."""
    return f"{_processor_name()} ({platform.machine()}), {console.counted(startup.cores(), 'core')}"


def _processor_name() -> str:
    known = Path("/proc/cpuinfo")
    if known.is_file():
        found = re.search(r"^model name\s*: (.+)$", known.read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    if sys.platform == "darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or "unnamed processor"


def main() -> int:
    if len(sys.argv) != 4 or not all(number.isdecimal() and int(number) for number in sys.argv[2:]):
        raise InputError("expected: python -m sqznet.predict.latency FILE THREADS RUNS")
    print(json.dumps(dataclasses.asdict(measure_here(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
    return 0


if __name__ == "__main__":
    cli.run(main)
