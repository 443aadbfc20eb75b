"""Export a trained model as SavedModel, TFLite and ONNX, proved against the Keras model.

  python -m sqznet.export --format=tflite
      the newest run, compared on the data it was trained with
  python -m sqznet.export --model=runs/NAME --format=all --data=data/imagenet
  python -m sqznet.export --format=onnx --quantize=float16 --budget=2.5MB
  python -m sqznet.export --model=squeezenet-v1.1 --data=data/imagenet

Every file takes raw RGB pixels 0..255 as float32, NHWC, and gives probabilities: mean subtraction and batch norm
are folded into the weights. Each is reloaded in its own runtime (TensorFlow, LiteRT, ONNX Runtime) and compared with
the Keras model on real records; a file over the budget or not equal ends the command with exit code 1 and is not
written. Writes to export/artifacts/RUN: the files, labels.txt and manifest.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet import cli, console
from sqznet.errors import InputError
from sqznet.export import budget

ARTIFACTS = Path("export/artifacts")
RECORDS = 5000


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.export", __doc__)
    parser.add_argument("--format", default="all", help="savedmodel, tflite, onnx or all")
    parser.add_argument(
        "--model", "--weights", type=Path, help="run folder, .keras file or published weights; default the newest run"
    )
    parser.add_argument("--quantize", default="none", help="none (float32) or float16 (tflite and onnx)")
    parser.add_argument("--budget", default="5MiB", help="most bytes of each file: 5MiB, 5MB, 480kB or plain bytes")
    parser.add_argument("--data", type=Path, help="shards to compare on; default those of the run")
    parser.add_argument("--split", help="split to compare on; default test, or val where there is no test")
    parser.add_argument("--records", type=int, default=RECORDS, help="records to compare on; 0 means all")
    parser.add_argument("--out", type=Path, help="folder for the files; default export/artifacts/RUN")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    limit = budget.parse(args.budget)
    if args.records < 0:
        raise InputError(f"--records={args.records} must be 0 (all) or more")
    from sqznet import inference, keras_file, startup
    from sqznet.data import manifest as manifests
    from sqznet.training import run_folder

    startup.load_tensorflow()
    from sqznet.export import bundle

    formats = bundle.choose(args.format, args.quantize)
    source = args.model or run_folder.newest(run_folder.BEST)
    trained, card = inference.load_keras(source)
    manifest = manifests.load(args.data or keras_file.trained_on(card, source))
    out = args.out or ARTIFACTS / _name_of(source)
    exported, against = bundle.export(
        source,
        trained,
        card,
        manifest,
        formats=formats,
        quantize=args.quantize,
        budget=limit,
        split=args.split or ("test" if "test" in manifest.splits else "val"),
        records=args.records or None,
        out=out,
    )
    bundle.print_table(exported, against, limit)
    console.result(f"written to {out}")
    return 0


def _name_of(source: Path) -> str:
    """A run goes by the name of its folder, also where its best.keras is named; other files by their own."""
    if source.is_file():
        return source.resolve().parent.name if source.name == "best.keras" else source.stem
    return source.resolve().name if source.exists() else source.name


if __name__ == "__main__":
    cli.run(main)
