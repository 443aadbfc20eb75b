"""Export a trained model as SavedModel, TFLite and ONNX files that a mobile team can ship, proved one by one.

  python -m sqznet.export --format=tflite
      the newest run, compared on the data it was trained with
  python -m sqznet.export --model=runs/NAME --format=all --quantize=all --data=data/imagenet
      everything: float32, float16, dynamic-range and int8, NHWC and NCHW
  python -m sqznet.export --format=onnx --quantize=float16 --budget=2.5MB
  python -m sqznet.export --model=squeezenet-v1.1 --data=data/imagenet
  python -m sqznet.export --check=export/artifacts/NAME
      is a bundle still what was proved?

Every file takes raw RGB pixels 0..255 and gives probabilities: mean subtraction and batch norm are folded into the
weights. Each is reloaded in its own runtime (TensorFlow, LiteRT, ONNX Runtime) and compared with the Keras model on
real records. A file over the budget, with a foreign operator, in other types than it claims, or that loses more than
--max_drop of top-1, ends the command with exit code 1, and what was in the folder before stays. Otherwise writes to
export/artifacts/RUN: the files, labels.txt, manifest.json, MODEL_CARD.md, report.html, golden vectors for self-tests
and constants for Kotlin and Swift.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sqznet.core import cli, console, files, locks, remote, sizes
from sqznet.core.errors import InputError

ARTIFACTS = Path("export/artifacts")
RECORDS = 5000


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.export", __doc__)
    parser.add_argument("--format", default="all", help="savedmodel, tflite, onnx, onnx_nchw or all")
    parser.add_argument(
        "--model", "--weights", type=Path, help="run folder, .keras file or published weights; default the newest run"
    )
    parser.add_argument("--quantize", default="none", help="none (float32), float16, dynamic, int8 or all")
    parser.add_argument(
        "--budget", type=sizes.parse, default="5MiB", help="most bytes of each file: 5MiB, 5MB, 480kB or plain bytes"
    )
    parser.add_argument("--data", type=remote.folder, help="shards to compare on; default those of the run")
    parser.add_argument("--split", help="split to compare on; default test, or val where there is no test")
    parser.add_argument("--records", type=cli.whole, default=RECORDS, help="records to compare on; 0 means all")
    parser.add_argument(
        "--max_drop", type=cli.within(0, 100), default=1.0, help="most top-1 a file may lose, in points"
    )
    parser.add_argument(
        "--calibration_records",
        type=cli.positive,
        default=128,
        help="training records that the steps of int8 are found on",
    )
    parser.add_argument(
        "--sparse", action="store_true", help="int8 with coarse steps, many of them zero: less to transfer"
    )
    parser.add_argument(
        "--golden",
        choices=("photographs", "drawings"),
        default="photographs",
        help="what golden/ and the report show: eight records of the split, or drawings, where photographs (of people, "
        "say, or of others) must not be passed on",
    )
    parser.add_argument(
        "--tflite_batch", type=_batch, default="1", help="images at a time in TFLite files: 1, 2, ... or any"
    )
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="check an exported folder instead of exporting")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="remove the bundle that is in --out as a whole; without it, other files of the same model are kept",
    )
    parser.add_argument("--out", type=Path, help="folder for the files; default export/artifacts/RUN")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.out and os.path.ismount(args.out.resolve()):
        raise InputError(
            f"--out={args.out} is where a disk is mounted, which a bundle cannot replace: name a folder in it, "
            f"--out={args.out / 'NAME'}"
        )
    from sqznet.core import startup
    from sqznet.data import manifest as manifests
    from sqznet.predict import inference
    from sqznet.runs import run_folder

    startup.load_tensorflow()
    from sqznet.export import bundle, variants

    if args.check:
        return _check(args.check)
    chosen = variants.choose(args.format, args.quantize)
    if args.sparse and not any(each.quantize == "int8" for each in chosen):
        raise InputError(
            f"--sparse is about int8 files, and --quantize={args.quantize} writes none: add --quantize=int8"
        )
    source = args.model or run_folder.newest(run_folder.BEST)
    trained, card = inference.load_keras(source)
    manifest = manifests.load(args.data or run_folder.trained_on(card, source))
    out = args.out or ARTIFACTS / _name_of(source)
    split = args.split or ("test" if "test" in manifest.splits else "val" if "val" in manifest.splits else "train")
    lock, remedy = locks.beside(out.resolve()), "wait for it, or name another --out"
    with locks.locked(lock, f"exports to {out}", wait=False, remedy=remedy):
        files.remove_abandoned(out.resolve(), age=0)
        exported, against = bundle.export(
            source,
            trained,
            card,
            manifest,
            variants=chosen,
            gate=bundle.Gate(args.budget, args.max_drop / 100, split, args.records or None),
            out=out,
            calibration_records=args.calibration_records,
            sparse=args.sparse,
            drawings=args.golden == "drawings",
            tflite_batch=args.tflite_batch,
            replace=args.replace,
        )
    bundle.print_table(exported, against, args.budget)
    console.result(f"written to {out}; pictures and figures: {out / 'report.html'}")
    console.next_step("sqznet.predict", f"--model={out}", "PHOTOGRAPH")
    return 0


def _batch(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more, or any")
    return int(text)


def _check(folder: Path) -> int:
    from sqznet.export import check

    rows = [[name, f"{size:,}", f"{difference:.1e}"] for name, size, difference in check.check(folder)]
    console.table(["file", "bytes", "golden difference"], rows, title=str(folder))
    console.result(f"{folder} is what was proved")
    return 0


def _name_of(source: Path) -> str:
    """A run goes by the name of its folder, also where its best.keras is named; other files by their own."""
    if source.is_file():
        return source.resolve().parent.name if source.name == "best.keras" else source.stem
    return source.resolve().name if source.exists() else source.name


if __name__ == "__main__":
    cli.run(main)
