"""Export a trained model as SavedModel, TFLite and ONNX files for mobile apps and servers, each verified.

  python -m sqznet.export --format=tflite
      the newest run, compared on the data of its training
  python -m sqznet.export --model=runs/NAME --format=all --quantize=all --data=data/imagenet
      all files: float32, float16, dynamic-range and int8, NHWC and NCHW
  python -m sqznet.export --format=onnx --quantize=float16 --budget=2.5MB
  python -m sqznet.export --model=squeezenet-v1.1 --data=data/imagenet
  python -m sqznet.export --outputs=probabilities,class_map
      files that also tell where in the photograph each class is seen (docs/class_maps.md)
  python -m sqznet.export --min_precision=0.98
      files that answer "not sure" below a probability, so that 98 % of the answers are right (docs/not_sure.md)
  python -m sqznet.export --check=export/artifacts/NAME
      check a bundle against its manifest

Every file takes raw RGB pixels 0..255 and gives probabilities: mean subtraction and batch norm are folded into the
weights. Each file is reloaded in its own runtime (TensorFlow, LiteRT, ONNX Runtime) and compared with the Keras model
on real records. If a file is over the budget, has an operator or a type that is not allowed, or loses more than
--max_drop of top-1, the command ends with exit code 1. An older bundle in the folder then stays unchanged. Otherwise
the command writes these files to export/artifacts/RUN: the model files, labels.txt, manifest.json, MODEL_CARD.md,
report.html, golden vectors for self-tests and constants for Kotlin and Swift.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sqznet.core import cli, console, remote, sizes, startup
from sqznet.predict import inference
from sqznet.runs import run_folder

RECORDS = 5000


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.export", __doc__)
    add = parser.add_argument
    add("--format", type=_names, default="all", help="savedmodel, tflite, onnx, onnx_nchw or all; several: tflite,onnx")
    add("--model", "--weights", type=Path, help="run folder, .keras file or published weights; default: the newest run")
    add("--quantize", type=_names, default="none", help="none (float32), float16, dynamic, int8, all or several")
    add(
        "--outputs",
        type=_names,
        default="probabilities",
        help="probabilities, or probabilities,class_map: a second output says where in the image each class is seen",
    )
    add("--budget", type=sizes.parse, default="5MiB", help="maximum size of a file: 5MiB, 5MB, 480kB or plain bytes")
    add("--data", type=remote.folder, help="shards with the records for the comparison; default: the shards of the run")
    add("--split", help="split for the comparison; default: test, or val if there is no test")
    add("--records", type=cli.whole, default=RECORDS, help="number of records for the comparison; 0 means all")
    add("--max_drop", type=cli.within(0, 100), default=1.0, help="maximum loss of top-1 of a file, in points")
    add(
        "--min_precision",
        type=cli.within(0, 1),
        help="share of right answers, 0 to 1: below the lowest threshold that has it on val, the answer is 'not sure'",
    )
    add("--calibration_records", type=cli.positive, default=128, help="training records for the int8 calibration")
    add("--sparse", action="store_true", help="int8 weights with coarse steps, many of them zero: smaller downloads")
    add(
        "--golden",
        type=lambda text: "synthetic" if text == "drawings" else text,  # its name in earlier versions
        choices=("photographs", "synthetic"),
        default="photographs",
        help="pictures of golden/ and the report: eight records of the split, or synthetic ones, for sets whose "
        "photographs must not be passed on",
    )
    add("--tflite_batch", type=_batch, default="1", help="images per run of a TFLite file: 1, 2, ... or any")
    add("--check", type=Path, metavar="FOLDER", help="check an exported folder instead of exporting")
    add(
        "--replace",
        action="store_true",
        help="remove the whole bundle that is in --out; without it, other files of the same model are kept",
    )
    add("--out", type=_out, help="folder for the files; default: export/artifacts/RUN")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _batch(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more, or any")
    return int(text)


def _out(text: str) -> Path:
    if os.path.ismount(Path(text).resolve()):
        raise argparse.ArgumentTypeError(
            f"{text} is a mount point, which a bundle cannot replace: name a folder in it, --out={Path(text) / 'NAME'}"
        )
    return Path(text)


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    startup.load_tensorflow()
    from sqznet.export import check, session

    if args.check:
        check.print_results(args.check)
        return 0
    chosen = session.choose(args.format, args.quantize, sparse=args.sparse)
    source = args.model or run_folder.newest(run_folder.BEST)
    written = session.export_model(
        source,
        *inference.load_keras(source),
        chosen=chosen,
        data=args.data,
        out=args.out,
        split=args.split,
        budget=args.budget,
        max_drop=args.max_drop / 100,
        min_precision=args.min_precision,
        records=args.records or None,
        calibration_records=args.calibration_records,
        sparse=args.sparse,
        outputs=args.outputs,
        synthetic=args.golden == "synthetic",
        tflite_batch=args.tflite_batch,
        replace=args.replace,
    )
    console.table(*written.table())
    console.result(f"written to {written.folder}; pictures and figures: {written.folder / 'report.html'}")
    console.next_step("sqznet.predict", f"--model={written.folder}", "PHOTOGRAPH")
    return 0


if __name__ == "__main__":
    cli.run(main)
