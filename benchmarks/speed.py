"""How fast this machine trains, reads photographs, exports, and starts commands. Run it in the repository's root.

  python -m benchmarks.speed --what=train --compare
      images/s of a training step, beside stock Keras and, if it is installed, PyTorch
  python -m benchmarks.speed --what=input --data=data/imagenette --compare
      images per core-second through the input pipeline, beside the plain one and PyTorch's
  python -m benchmarks.speed --what=export --data=data/imagenette --model=runs/NAME
      seconds an export takes, format by format
  python -m benchmarks.speed --what=startup
      seconds that --help of each command takes

Each workload runs in a process of its own. They take turns, one round each, after a round to warm up. Figures are
medians of the rounds; "spread" is the fastest less the slowest round in per cent of the median.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import turns
from benchmarks.turns import Entry, Result
from sqznet.core import cli, console, files, startup
from sqznet.core.errors import InputError
from sqznet.data import manifest
from sqznet.network import architecture
from sqznet.predict import latency
from sqznet.train import precision

# The article trained on ILSVRC2012 less 50 photographs of each class, and gives the minutes an epoch took on one GPU.
IMAGENET_RECORDS = 1_281_167 - 50_000
ARTICLE_MINUTES = {"K80 (article)": 145, "Titan X (article)": 146, "V100 (article)": 28}
BACKWARD = 2  # work of the backward pass over that of the forward pass: gradients of the weights and of the input
STEP_COLUMNS = [
    "step", "images/s", "of ours", "spread", "GFLOP/s", "of the limit", "peak MiB", "min an ImageNet epoch",
]  # fmt: skip
COMMANDS = (
    "data", "weights", "train", "tune", "launch", "runs",
    "evaluate", "predict", "export", "compress", "benchmark", "serve",
)  # fmt: skip
WHATS = ("train", "input", "export", "startup", "all")
EXPORTS = {
    "savedmodel": ["--format=savedmodel"],
    "tflite": ["--format=tflite"],
    "onnx": ["--format=onnx"],
    "all formats": ["--format=all"],
    "all formats, float16 and int8 too": ["--format=all", "--quantize=all"],
}


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("benchmarks.speed", __doc__)
    parser.add_argument("--what", choices=WHATS, default="all", help="what to time; all: what the other flags allow")
    parser.add_argument("--compare", action="store_true", help="train, input: time other programs too")
    parser.add_argument("--data", type=Path, help="input, export, train: a built set; train also reads from it")
    parser.add_argument("--model", type=Path, help="export: a run folder or a .keras file")
    parser.add_argument("--archs", default="v1.0,v1.1", help="train: SqueezeNet versions")
    parser.add_argument(
        "--sizes", type=cli.positives, default="227,96", help="train: sides of the images, in pixels; input: the first"
    )
    parser.add_argument("--batch", type=cli.positive, default=32, help="train, input: images in a batch")
    parser.add_argument("--rounds", type=cli.positive, default=5, help="rounds that count")
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out and args.out.is_dir():
        raise InputError(f"--out={args.out} is a folder; name a file, such as {args.out / 'figures.json'}")
    for what, name in (("input", "data"), ("export", "data"), ("export", "model")):
        if args.what == what and getattr(args, name) is None:
            raise InputError(f"--what={what} needs --{name}")
    figures: dict[str, Any] = {"processor": latency.processor(), "python": platform.python_version()}
    wanted = WHATS[:-1] if args.what == "all" else (args.what,)
    if "train" in wanted:
        figures["train"] = train(args.archs.split(","), args.sizes, args.batch, args.rounds, args.compare, args.data)
    if "input" in wanted and args.data:
        figures["input"] = read(args.data, args.sizes[0], args.batch, args.rounds, args.compare)
    if "export" in wanted and args.data and args.model:
        figures["export"] = export(args.model, args.data, args.rounds)
    if "startup" in wanted:
        figures["startup"] = start(args.rounds)
    if args.out:
        files.write_json(args.out, figures)
        console.result(f"figures: {args.out}")
    return 0


def train(
    archs: list[str], sizes: tuple[int, ...], batch: int, rounds: int, compare: bool, data: Path | None
) -> list[dict[str, Any]]:
    """A training step for each version and size; all networks have the classes of `data`, where it is given.

    Args:
        compare: time other programs too.
        data: time the step on batches read from it too.

    Raises:
        InputError: no such version, too small a size, or a workload failed.
    """
    unknown = sorted(set(archs) - set(architecture.ARCHS))
    if unknown:
        raise InputError(f"no SqueezeNet {unknown[0]!r}; there are {', '.join(architecture.ARCHS)}")
    # conv10 must have the same size with and without `data`, so that the two rows can be compared.
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
                    dataclasses.replace(other, label=f"{other.label}, {each['precision']}")
                    for each in told
                    for other in _pytorch("train-pytorch", each)
                ]
            entries.append(Entry("matrix-product", {}, "matrix product"))
            *results, matrices = turns.run(entries, rounds, f"training {arch}, {size} px")
            ours = results[0]
            # conv1 needs no gradient of its input.
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
        InputError: no such set, or a workload failed.
    """
    settings = {"data": str(data), "image_size": size, "batch": batch}
    entries = [Entry("input-sqznet", settings, "sqznet")]
    if compare:
        entries += [Entry("input-decode-jpeg", settings, "decode_jpeg"), *_pytorch("input-pytorch", settings)]
    results = turns.run(entries, rounds, f"reading {data}")
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
    """Seconds from the shell to the end of an export, with the verification on `data`, latencies and report.

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
                # Only the time is measured, so networks that the gate would refuse are allowed.
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
        console.say("PyTorch is not installed (pip install torch): it is left out")
        return []
    return [Entry(name, settings, "PyTorch")]


if __name__ == "__main__":
    cli.run(main)
