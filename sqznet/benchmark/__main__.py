"""How fast this machine trains, reads photographs, exports, starts, and runs exported files.

  python -m sqznet.benchmark --what=train --compare
      images/s of a training step, beside stock Keras and, if it is installed, PyTorch
  python -m sqznet.benchmark --what=input --data=data/imagenette --compare
      images per core-second through the input pipeline, beside the plain one and PyTorch's
  python -m sqznet.benchmark --what=export --data=data/imagenette --model=runs/NAME
      seconds an export takes, format by format
  python -m sqznet.benchmark --what=infer --model=export/artifacts/NAME
      every file of an exported bundle, with 1 and with 2 threads
  python -m sqznet.benchmark --what=infer --model=model.tflite --threads=1,2,4 --runs=200 --out=latency.json
      one file: .tflite, .onnx, a SavedModel folder, .keras or a run folder

Each contestant runs in a process of its own; they take turns, one round each after a round to warm up. Figures are
medians of the rounds, "spread" the distance between the fastest and the slowest in per cent of the median.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

from sqznet.benchmark import infer, speed
from sqznet.core import cli, console
from sqznet.core.errors import InputError

WHATS = ("train", "input", "export", "infer", "startup", "all")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.benchmark", __doc__)
    parser.add_argument("--what", choices=WHATS, default="all", help="what to measure; all: what the other flags allow")
    parser.add_argument("--compare", action="store_true", help="train, input: the peers take turns with ours")
    parser.add_argument(
        "--data", type=Path, help="input, train, export: a built set; train reads it as a whole run would"
    )
    parser.add_argument(
        "--model", type=Path, help="infer: an exported bundle's folder, or one model; export: a run or .keras"
    )
    parser.add_argument("--archs", default="v1.0,v1.1", help="train: SqueezeNet versions")
    parser.add_argument(
        "--sizes", type=cli.positives, default="227,96", help="train: sides of the images, in pixels; input: the first"
    )
    parser.add_argument("--batch", type=cli.positive, default=32, help="train, input: images in a batch")
    parser.add_argument(
        "--rounds", type=cli.positive, default=5, help="train, input, export, startup: rounds that count"
    )
    parser.add_argument(
        "--threads", type=cli.positives, default="1,2", help="infer: numbers of threads, each measured on its own"
    )
    parser.add_argument("--runs", type=cli.positive, default=50, help="infer: runs that count, after the warm-up")
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out and args.out.is_dir():
        raise InputError(f"--out={args.out} is a folder; name a file, such as {args.out / 'figures.json'}")
    for what, name in (("input", "data"), ("infer", "model"), ("export", "data"), ("export", "model")):
        if args.what == what and getattr(args, name) is None:
            raise InputError(f"--what={what} needs --{name}")
    from sqznet.core import files
    from sqznet.predict import latency
    from sqznet.runs import run_folder

    figures: dict[str, Any] = {"processor": latency.processor(), "python": platform.python_version()}
    wanted = WHATS[:-1] if args.what == "all" else (args.what,)
    if "train" in wanted:
        figures["train"] = speed.train(
            args.archs.split(","), args.sizes, args.batch, args.rounds, args.compare, args.data
        )
    if "input" in wanted and args.data:
        figures["input"] = speed.read(args.data, args.sizes[0], args.batch, args.rounds, args.compare)
    trained = args.model and (args.model.suffix == ".keras" or (args.model / run_folder.CONFIG).exists())
    if args.what == "export" or ("export" in wanted and args.data and trained):
        figures["export"] = speed.export(args.model, args.data, args.rounds)
    if "startup" in wanted:
        figures["startup"] = speed.start(args.rounds)
    if "infer" in wanted and args.model:
        figures["infer"] = infer.measure(args.model, args.threads, args.runs)
    if args.out:
        files.write_json(args.out, figures)
        console.result(f"figures: {args.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
