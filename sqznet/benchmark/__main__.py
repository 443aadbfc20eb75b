"""Time exported files on this machine, and measure their memory.

  python -m sqznet.benchmark --what=infer --model=export/artifacts/NAME
      every file of an exported bundle, with 1 and with 2 threads
  python -m sqznet.benchmark --model=model.tflite --threads=1,2,4 --runs=200 --out=latency.json
      one file: .tflite, .onnx, a SavedModel folder, .keras or a run folder

`python -m benchmarks.speed` in the project's repository times training, reading, exports and start-up.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from sqznet.benchmark import infer
from sqznet.core import cli, console
from sqznet.core.errors import InputError

ELSEWHERE = ("train", "input", "export", "startup", "all")  # timed by benchmarks/speed.py


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.benchmark", __doc__)
    parser.add_argument("--what", type=_what, choices=("infer",), default="infer", help="what to measure")
    parser.add_argument("--model", type=Path, required=True, help="folder of an exported bundle, or one model")
    parser.add_argument(
        "--threads", type=cli.positives, default="1,2", help="numbers of threads; each number is measured separately"
    )
    parser.add_argument("--runs", type=cli.positive, default=50, help="number of measured runs, after the warm-up")
    parser.add_argument("--out", type=Path, help="JSON file to write the figures to")
    return parser


def _what(text: str) -> str:
    if text in ELSEWHERE:
        raise argparse.ArgumentTypeError(
            f"{text} is measured in the project's repository: python -m benchmarks.speed --what={text}"
        )
    return text


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out and args.out.is_dir():
        raise InputError(f"--out={args.out} is a folder; name a file, such as {args.out / 'figures.json'}")
    from sqznet.core import files
    from sqznet.predict import latency

    figures = {
        "processor": latency.processor(),
        "python": platform.python_version(),
        "infer": infer.measure(args.model, args.threads, args.runs),
    }
    if args.out:
        files.write_json(args.out, figures)
        console.result(f"figures: {args.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
