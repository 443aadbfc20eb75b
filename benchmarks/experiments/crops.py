"""Compares ways to scale a training crop: trainings of equal length that differ in nothing else.

  python -m benchmarks.experiments.crops --data=data/imagenette
      recipe imagenette for 8 epochs at 64 px, evaluated at 80 px, with seeds 0 and 1: eight trainings

Finished trainings are not repeated, so a stopped comparison goes on where it was.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from sqznet.core import cli, console
from sqznet.runs import __main__ as runs

WAYS = ("areas", "antialiased", "neighbours", "antialiased, not halved")
FLAGS = ["--recipe=imagenette", "--train_sizes=0:64", "--image_size=80", "--resize_to=80"]


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("benchmarks.experiments.crops", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--epochs", type=int, default=8, help="of every training")
    parser.add_argument("--seeds", default="0,1", help="each way is trained with each of them")
    parser.add_argument("--runs", type=Path, default=Path("runs/crops"), help="folder of the run folders")
    args = parser.parse_args(argv)
    rows = []
    for way in WAYS:
        found = []
        for seed in args.seeds.split(","):
            folder = args.runs / f"{way.replace(', ', '-').replace(' ', '-')}-{seed}"
            flags = [*FLAGS, f"--data={args.data}", f"--epochs={args.epochs}", f"--seed={seed}", f"--run_dir={folder}"]
            command = [sys.executable, "-m", "benchmarks.experiments.crops", "train", way, *flags, "--resume"]
            subprocess.run(command, check=True)
            found.append(runs.read(folder).metrics[-1]["val_top1"])
        rows.append([way, *map(console.percent, found)])
    console.table(["crop", *(f"seed {seed}" for seed in args.seeds.split(","))], rows, title="val top-1")
    return 0


def train(way: str, flags: list[str]) -> int:
    """Trains with crops that are scaled in another way."""
    from sqznet.train import __main__ as training

    with contextlib.ExitStack() as stack:
        for patch in patches(way):
            stack.enter_context(patch)
        return training.main(flags)


def patches(way: str) -> list[Any]:
    import tensorflow as tf

    from sqznet.images import crop

    scale, cut = crop._scale, crop._cut

    def antialiased(pixels, size, _antialias):
        scaled = tf.image.resize(pixels, [size, size], antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)

    def neighbours(pixels, size, _antialias):
        return scale(pixels, size, False)

    def not_halved(photograph, box, _size):
        return tf.cast(cut(photograph, box), tf.float32)

    return {
        "areas": [],
        "antialiased": [mock.patch.object(crop, "_scale", antialiased)],
        "neighbours": [mock.patch.object(crop, "_scale", neighbours)],
        "antialiased, not halved": [
            mock.patch.object(crop, "_scale", antialiased),
            mock.patch.object(crop, "_halved", not_halved),
        ],
    }[way]


if __name__ == "__main__":
    if sys.argv[1:2] == ["train"]:
        cli.run(lambda: train(sys.argv[2], sys.argv[3:]))
    else:
        cli.run(main)
