"""The races: a training step, the input pipeline, start-up; each prints its table and returns its figures."""

from __future__ import annotations

import dataclasses
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqznet.benchmark import race
from sqznet.benchmark.race import Entry, Result
from sqznet.core import console, startup
from sqznet.core.errors import InputError
from sqznet.data import manifest
from sqznet.network import architecture
from sqznet.predict import latency
from sqznet.train import precision

# The article trained on ILSVRC2012 less 50 photographs of each class; minutes an epoch that it says one GPU took.
IMAGENET_RECORDS = 1_281_167 - 50_000
ARTICLE_MINUTES = {"K80 (article)": 145, "Titan X (article)": 146, "V100 (article)": 28}
BACKWARD = 2  # times the work of the forward pass: gradients of the weights and of the input
STEP_COLUMNS = [
    "step", "images/s", "of ours", "spread", "GFLOP/s", "of the limit", "peak MiB", "min an ImageNet epoch",
]  # fmt: skip
COMMANDS = (
    "data", "weights", "train", "tune", "launch", "runs",
    "evaluate", "predict", "export", "compress", "benchmark", "serve",
)  # fmt: skip
EXPORTS = {
    "savedmodel": ["--format=savedmodel"],
    "tflite": ["--format=tflite"],
    "onnx": ["--format=onnx"],
    "all formats": ["--format=all"],
    "all formats, float16 and int8 too": ["--format=all", "--quantize=all"],
}


def train(
    archs: list[str], sizes: tuple[int, ...], batch: int, rounds: int, compare: bool, data: Path | None
) -> list[dict[str, Any]]:
    """A training step for each version and size, with peers if asked, on `data` too if given (all with its classes).

    Raises:
        InputError: no such version, too small a size, or a contestant failed.
    """
    unknown = sorted(set(archs) - set(architecture.ARCHS))
    if unknown:
        raise InputError(f"no SqueezeNet {unknown[0]!r}; there are {', '.join(architecture.ARCHS)}")
    # The whole run and the bare step must have the same conv10 to be compared.
    classes = len(manifest.load(data).classes) if data else 1000
    startup.load_tensorflow()
    chosen = precision.choose("auto")
    precisions = [chosen] if chosen == "float32" else [chosen, "float32"]
    figures = []
    for arch in archs:
        for size in sizes:
            settings = {"arch": arch, "image_size": size, "batch": batch, "classes": classes}
            told = [{**settings, "precision": each} for each in precisions]
            entries = [Entry("train-sqznet", each, f"sqznet, {each['precision']}") for each in told]
            if data:
                entries.append(Entry("train-sqznet", {**told[0], "data": str(data)}, f"the same on {data}"))
            if compare:
                entries.append(Entry("train-keras", settings, "Keras fit, float32"))
                entries += [
                    dataclasses.replace(peer, label=f"{peer.label}, {each['precision']}")
                    for each in told
                    for peer in _pytorch("train-pytorch", each)
                ]
            entries.append(Entry("matrix-product", {}, "matrix product"))
            *results, matrices = race.run(entries, rounds, f"training {arch}, {size} px")
            ours = results[0]
            # Every convolution's input has a gradient but conv1's.
            work = architecture.multiply_adds(architecture.Network(classes, arch=arch, image_size=size))
            gflop = 2 * ((1 + BACKWARD) * sum(work.values()) - work["conv1"]) / 1e9
            limit = matrices.images_per_second  # GFLOP/s
            console.table(
                STEP_COLUMNS,
                [
                    [
                        each.entry.label,
                        f"{each.images_per_second:.1f}",
                        f"{each.images_per_second / ours.images_per_second:.2f}",
                        f"{each.spread:.0%}",
                        f"{each.images_per_second * gflop:.1f}",
                        f"{each.images_per_second * gflop / limit:.0%}",
                        f"{each.peak_mib:.0f}",
                        f"{IMAGENET_RECORDS / each.images_per_second / 60:,.0f}",
                    ]
                    for each in results
                ]
                + [
                    [name, f"{IMAGENET_RECORDS / minutes / 60:.1f}", *["-"] * 5, str(minutes)]
                    for name, minutes in ARTICLE_MINUTES.items()
                ],
                title=f"{arch}, {size} px, {classes} classes, batch {batch}, {gflop:.2f} GFLOP an "
                f"image; the limit is a float32 matrix product's {limit:.1f} GFLOP/s; {latency.processor()}",
            )
            figures.append(
                {**settings, "gflop_an_image": gflop, "limit_gflops": limit, "results": [e.to_dict() for e in results]}
            )
    return figures


def read(data: Path, size: int, batch: int, rounds: int, compare: bool) -> dict[str, Any]:
    """The input pipeline on the training split of a set.

    Raises:
        InputError: no such set, or a contestant failed.
    """
    settings = {"data": str(data), "image_size": size, "batch": batch}
    entries = [Entry("input-sqznet", settings, "sqznet")]
    if compare:
        entries += [Entry("input-decode-jpeg", settings, "decode_jpeg"), *_pytorch("input-pytorch", settings)]
    results = race.run(entries, rounds, f"reading {data}")
    ours = results[0]
    console.table(
        ["input", "images/s", "images per core-second", "of ours", "spread", "peak MiB"],
        [_input_row(each, ours) for each in results],
        title=f"random resized crops of {size} px from {data}, batch {batch}; {latency.processor()}",
    )
    return {**settings, "results": [each.to_dict() for each in results]}


def _input_row(each: Result, ours: Result) -> list[str]:
    return [
        each.entry.label,
        f"{each.images_per_second:,.0f}",
        f"{each.images_per_core_second:,.0f}",
        f"{each.images_per_core_second / ours.images_per_core_second:.2f}",
        f"{each.spread:.0%}",
        f"{each.peak_mib:.0f}",
    ]


def start(rounds: int) -> dict[str, float]:
    """Seconds from the shell to the end of each command's --help."""
    commands = {f"{name} --help": ["-m", f"sqznet.{name}", "--help"] for name in COMMANDS}
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            taken[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(times[1:]) for name, times in taken.items()}
    console.table(["command", "seconds"], [[name, f"{each:.2f}"] for name, each in seconds.items()])
    return seconds


def export(source: Path, data: Path, rounds: int) -> dict[str, float]:
    """Seconds from the shell to the end of an export: written, proved on records of `data`, timed, described.

    Raises:
        InputError: an export failed; with the last thing it said.
    """
    taken: dict[str, list[float]] = {name: [] for name in EXPORTS}
    with tempfile.TemporaryDirectory() as folder, console.progress("exports") as bar:
        task = bar.add_task(f"exporting {source}", total=rounds * len(EXPORTS))
        for _ in range(rounds):
            for name, flags in EXPORTS.items():
                command = [sys.executable, "-m", "sqznet.export", *flags, f"--model={source}", f"--data={data}"]
                started = time.perf_counter()
                # Speed is asked for, not accuracy: networks that the gate would refuse take part.
                gate = ["--max_drop=100", "--budget=100MiB", "--replace", f"--out={folder}/bundle"]
                done = subprocess.run([*command, *gate], capture_output=True, text=True)
                taken[name].append(time.perf_counter() - started)
                if done.returncode:
                    raise InputError(f"{' '.join(command[1:])} failed: {done.stderr.strip().splitlines()[-1]}")
                bar.advance(task)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    console.table(["export", "seconds"], [[name, f"{each:.1f}"] for name, each in seconds.items()], title=str(source))
    return seconds


def _pytorch(name: str, settings: dict[str, Any]) -> list[Entry]:
    if importlib.util.find_spec("torch") is None:
        console.say("PyTorch is not installed (pip install torch): it does not take part")
        return []
    return [Entry(name, settings, "PyTorch")]
