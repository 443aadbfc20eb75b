"""Measure the accuracy and the calibration of any model file on a split. Each record is used once.

  python -m sqznet.evaluate
      the newest run, on the data of its training
  python -m sqznet.evaluate --model=runs/NAME --data=data/imagenet --split=test
  python -m sqznet.evaluate --model=export/artifacts/NAME/model.tflite --data=data/imagenet --split=val
  python -m sqznet.evaluate --model=squeezenet-v1.1 --data=data/imagenet --split=val
  python -m sqznet.evaluate --model=runs/NAME --resize_as=mediapipe
     the accuracy if a runtime scales photographs in its own way (docs/resize.md)
  python -m sqznet.evaluate --model=squeezenet-v1.1 --data=data/tiny --resize=squash --resize_to=227
     photographs that are already cropped: squashed to the side of the network's input, and not cropped again
  python -m sqznet.evaluate --model=v1.0.sqz --against=squeezenet-v1.0 --data=data/imagenet
      also the points of accuracy lost against a second model, paired on the same records
  python -m sqznet.evaluate --model=runs/NAME --calibrate --split=test
      first fits a temperature on val and stores it in runs/NAME/best.keras (docs/probabilities.md)
  python -m sqznet.evaluate --model=runs/NAME --split=val --predictions=val.npz
      also writes the probabilities of every record, with which data --report finds label errors
  python -m sqznet.evaluate --model=runs/NAME --foreign=folder:others
      how often the model answers for photographs of none of its classes (docs/not_sure.md)

--model is a run folder, a .keras, .tflite, .onnx or .sqz file, a SavedModel folder, the folder of a bundle, or
published weights (a file, or a name that python -m sqznet.weights --list prints). Each file runs in its own runtime.
From a bundle, the command takes the file that is closest to the trained model. The command prints accuracy with 95 %
intervals, the calibration error, and a table by class. It writes a JSON report, the confusion matrix, a reliability
diagram, and a sheet of the most confident mistakes. Rank-1 is top-1, and rank-5 is top-5.
If probabilities are equal, the first class ranks first. The data may contain only some of the classes of the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet.core import cli, console, files, remote, startup
from sqznet.core.errors import InputError
from sqznet.images import geometry
from sqznet.images.preprocessing import RUNTIME_RESIZES


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.evaluate", __doc__)
    parser.add_argument("--model", "--weights", type=Path, help="model to evaluate; default: the newest run")
    parser.add_argument("--data", type=remote.folder, help="folder of shards; default: the data of the run")
    parser.add_argument("--split", help="train, val or test; default: test, or val if there is no test")
    parser.add_argument(
        "--resize_as",
        choices=RUNTIME_RESIZES,
        help="scale photographs as this runtime does, to measure the loss of accuracy",
    )
    parser.add_argument("--against", type=Path, help="second model, to compare the accuracy on the same records")
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="first fit one temperature on val and store it in the model's .keras file",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        help="also write the probabilities of every record to this .npz file, for data --report",
    )
    parser.add_argument(
        "--foreign",
        metavar="SOURCE",
        help="instead measure how often the model answers for these photographs of none of its classes: a folder, "
        "folder:PATH, or shards",
    )
    parser.add_argument("--out", type=Path, help="folder for the report; default: beside the model, or runs/NAME")
    geometry.add_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    given = geometry.given(args)
    if args.resize_as and given:
        raise InputError(
            f"--resize_as={args.resize_as} scales and cuts in that runtime's own way; leave out "
            f"{' and '.join(geometry.as_flags(given))}, or --resize_as"
        )
    others = [name for name in ("against", "resize_as", "predictions") if getattr(args, name)]
    if args.foreign and others:
        raise InputError(
            f"--foreign compares photographs of the classes with others: leave out --{others[0]}, or --foreign"
        )
    if args.calibrate and (args.resize_as or given):
        raise InputError(
            "--calibrate fits the temperature with the model's own preprocessing: leave out "
            f"{' and '.join(geometry.as_flags(given)) or f'--resize_as={args.resize_as}'}, or --calibrate"
        )
    from sqznet.network import keras_file
    from sqznet.predict import inference
    from sqznet.runs import run_folder

    path = inference.file_of(args.model) if args.model else run_folder.newest(run_folder.BEST)
    # Reports are written beside the model. Weights that are given by name have no folder of the user.
    beside = path.parent if path.exists() else run_folder.RUNS / path.name
    is_run = (path / run_folder.CONFIG).is_file()
    out = args.out or (path if is_run else beside)
    files.check_folder(out)
    startup.load_tensorflow()
    from sqznet.data import manifest as manifests
    from sqznet.evaluate import accuracy_report, predicted, scoring, temperature

    if args.calibrate:
        file = temperature.file_of(path)
        data = args.data or run_folder.trained_on(keras_file.read_card(file), path)
        temperature.calibrate(path, manifests.load(data))
    predictor = inference.load(path).with_geometry(given)
    manifest = manifests.load(args.data or run_folder.trained_on(predictor.card, path))
    split = args.split or scoring.default_split(manifest)
    if args.foreign:
        from sqznet.evaluate import none_of_these

        none_of_these.report(predictor, manifest, split, args.foreign, out)
        return 0
    other = None
    if args.against:
        other = inference.load(args.against)
        other = other.with_geometry(scoring.at_size(given, predictor.image_size, other.image_size))
        other.outputs_of(manifest.classes, manifest.folder)  # raises InputError before the first model is evaluated
    if args.resize_as:
        predictor = scoring.resizing_as(predictor, args.resize_as)
    mistakes = scoring.Mistakes(accuracy_report.MISTAKES_SHOWN)
    kept: list | None = [] if args.predictions else None
    score = scoring.evaluate(predictor, manifest, split, mistakes, kept)
    if kept is not None:
        predicted.write(args.predictions, kept, manifest, split, predictor.card)
    loss = scoring.Loss.of(score, other, scoring.evaluate(other, manifest, split)) if other else None
    accuracy_report.report(score, predictor, manifest, split, out, args.resize_as, loss, mistakes.kept)
    if is_run:
        console.next_step("sqznet.export", f"--model={path}", f"--data={manifest.folder}")
    else:
        console.next_step("sqznet.predict", f"--model={path}", "PHOTOGRAPH")
    return 0


if __name__ == "__main__":
    cli.run(main)
