"""Compress a trained network to a .sqz file of a few hundred kilobytes, or decode one to a file that phones run.

  python -m sqznet.compress
      the newest run, to the smallest file that loses at most one point of top-1
  python -m sqznet.compress --model=squeezenet-v1.0 --data=data/imagenet --target=340kB --out=v1.0.sqz
  python -m sqznet.compress --model=runs/NAME --max_drop=0.5 --finetune_minutes=10
  python -m sqznet.compress --decode=v1.0.sqz --format=tflite
      a TFLite file (or keras, or onnx) with the same weights, bit for bit

Rate-distortion optimisation rounds the kernels to integers. Photographs of the training split calibrate this rounding.
GPTQ error compensation adjusts the remaining weights. The command prints all sizes that it tried, with their accuracy
on --split. The command also writes this table as a CSV file and as a plot beside the .sqz file. All commands accept a
.sqz file as --model. docs/compress.md explains the method. docs/sqz.md specifies the format.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from sqznet.core import cli, remote, sizes, startup
from sqznet.core.errors import InputError
from sqznet.runs import run_folder

RECORDS = 5000
MAX_DROP = 1.0
DECODED_FORMATS = ("keras", "tflite", "onnx")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.compress", __doc__)
    parser.add_argument(
        "--model", "--weights", type=Path, help="run folder, .keras file or published weights; default: the newest run"
    )
    parser.add_argument(
        "--data",
        type=remote.folder,
        help="shards for calibration (train) and measurement; default: the shards of the run",
    )
    parser.add_argument(
        "--target", type=sizes.parse, help="largest size of the file: 340kB, 0.3MB, or a number of bytes"
    )
    parser.add_argument(
        "--max_drop",
        type=cli.within(0, 100),
        help="largest loss of top-1, in points; default: 1 if there is no --target",
    )
    parser.add_argument("--split", help="split to measure on; default: test, or val if there is no test")
    parser.add_argument(
        "--records", type=cli.whole, default=RECORDS, help="number of records to measure on; 0 means all"
    )
    parser.add_argument(
        "--calibration_records", type=cli.positive, default=256, help="number of training records for the calibration"
    )
    parser.add_argument("--sparsity", type=cli.share, default=0.0, help="fraction of all weights to prune first")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--measure", action=switch, default=True, help="choose steps by measured sensitivities")
    parser.add_argument("--compensate", action=switch, default=True, help="use GPTQ error compensation")
    parser.add_argument("--count_bits", action=switch, default=True, help="prefer integers that take fewer bits")
    parser.add_argument(
        "--finetune_minutes",
        type=cli.non_negative,
        default=0.0,
        help="minutes of fine-tuning after the rounding, on the outputs of the uncompressed network",
    )
    parser.add_argument("--points", type=cli.whole, default=0, help="number of further sizes to try, for the curve")
    parser.add_argument("--decode", type=Path, metavar="FILE", help="decode a .sqz file instead of writing one")
    parser.add_argument("--format", choices=DECODED_FORMATS, default="keras", help="format to decode to")
    parser.add_argument(
        "--out", type=Path, help="file to write; default: export/compressed/NAME.sqz, or beside the .sqz file"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out and not args.decode and args.out.suffix != ".sqz":
        raise InputError(f"--out={args.out} must end in .sqz")
    source = None if args.decode else args.model or run_folder.newest(run_folder.BEST)
    startup.load_tensorflow()
    from sqznet.compress import compressor, sqz_files

    if source is None:
        sqz_files.decode(args.decode, args.format, args.out)
        return 0
    args.records = args.records or None
    if args.max_drop is None and args.target is None:
        args.max_drop = MAX_DROP
    names = [field.name for field in dataclasses.fields(compressor.CompressionSettings)]
    settings = compressor.CompressionSettings(**{name: getattr(args, name) for name in names})
    sqz_files.compress(source, args.data, args.out, settings)
    return 0


if __name__ == "__main__":
    cli.run(main)
