"""Print the five likeliest classes of photographs.

  python -m sqznet.predict photo.jpg
      with the newest run; without a run, with the included sample network, which has ten classes
      (sqznet/predict/samples)
  python -m sqznet.predict --model=export/artifacts/NAME holiday/ --picture=sheet.png
      all photographs of a folder, with an exported bundle
  python -m sqznet.predict --model=squeezenet-v1.1 photo.jpg
      with published weights, which have 1,000 classes (python -m sqznet.weights --list)
  python -m sqznet.predict --model=runs/NAME --class_map=maps holiday/
      and a PNG for each photograph in the folder maps: where in it the answer is seen
  python -m sqznet.predict --json holiday/ > answers.json

--model is a run folder, a bundle's folder, a .keras, .sqz, .tflite or .onnx file, a SavedModel folder, or published
weights. Photographs may be JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or PPM, and HEIC if the package pillow-heif is
installed. Folders are read with their subfolders, without hidden and system files. --picture writes a sheet of the
first 48 photographs with their predictions. If probabilities are equal, the first class ranks first.

A bundle that was exported with --min_precision has a threshold. If no class has this probability, the answer is "not
sure", with the best guess beside it. In --json and --csv, `answered` is then false.

--class_map draws onto each photograph where the network sees its first answer, and darkens the part of the photograph
that the network does not see. Run folders, .keras and .sqz files and published weights always have class maps. An
exported file has them if it was exported with --outputs=probabilities,class_map.

If a photograph cannot be read, the command prints its name, classifies the other photographs, and ends with exit code
1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet.core import cli, console, files, startup
from sqznet.core.errors import InputError
from sqznet.images import geometry

SAMPLE = Path(__file__).parent / "samples" / "imagenette" / "model_int8.tflite"


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.predict", __doc__)
    parser.add_argument("photos", nargs="+", help="image files, and folders of them")
    parser.add_argument(
        "--model", "--weights", type=Path, help="default: the newest run; if there is none, the sample network"
    )
    parser.add_argument("--top", type=cli.positive, default=5, help="number of classes to show for each photograph")
    parser.add_argument("--picture", type=Path, help="write a sheet of photographs and predictions, as PNG")
    parser.add_argument(
        "--class_map",
        type=Path,
        metavar="FOLDER",
        help="write a PNG for each photograph that shows where the network sees its answer; --picture shows it too",
    )
    geometry.add_flags(parser)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print JSON instead of the table")
    forms.add_argument("--csv", action="store_true", help="print CSV instead of the table")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.picture and args.picture.is_dir():
        raise InputError(f"--picture={args.picture} is a folder; name a file, such as {args.picture / 'sheet.png'}")
    if args.picture:
        files.check_folder(args.picture.parent)
    if args.class_map and args.class_map.exists() and not args.class_map.is_dir():
        raise InputError(f"--class_map={args.class_map} is a file; name a folder for the pictures")
    from sqznet.predict import answers, inference, photographs

    photos = photographs.list_photos(args.photos)
    path = inference.file_of(args.model or _default_model())
    if inference.needs_tensorflow(path):
        startup.load_tensorflow()
    predictor = inference.load(path).with_geometry(geometry.given(args))
    found, failures = answers.answer(photos, predictor, args.top, args.class_map)
    if args.json:
        answers.print_json(found, failures, predictor)
    elif args.csv:
        answers.print_csv(found)
    else:
        answers.print_table(found, title=str(path))
    if args.picture and found:
        answers.draw(found, args.picture)
    if args.class_map and found:
        pictures = console.counted(len(found), "class map", "class maps")
        console.say(f"{pictures} in {args.class_map}, such as {found[0].class_map}")
    for photo, reason in failures.items():
        console.say(f"error: {photo}: {reason}")
    if not (args.json or args.csv or failures):
        _print_next_step(path)
    return 1 if failures else 0


def _default_model() -> Path:
    """Returns the newest run, or else the sample network, and prints a note about the sample.

    Raises:
        InputError: there is neither a run nor the sample network.
    """
    from sqznet.runs import run_folder

    try:
        return run_folder.newest(run_folder.BEST)
    except InputError:
        if not SAMPLE.is_file():
            raise
    console.say(
        f"no --model and no run in {run_folder.RUNS}/: using the sample {SAMPLE}, which has ten classes only "
        f"({SAMPLE.parent / 'labels.txt'}) and is for demonstration"
    )
    return SAMPLE


def _print_next_step(model: Path) -> None:
    from sqznet.network import exported
    from sqznet.predict import inference
    from sqznet.runs import run_folder

    if (model / run_folder.CONFIG).is_file():
        console.next_step("sqznet.export", f"--model={model}")
    elif (model.parent / exported.BUNDLE_MANIFEST).is_file():
        console.next_step("sqznet.serve", f"--model={model.parent}")
    elif inference.is_keras(model):
        console.next_step("sqznet.train", "--recipe=finetune", f"--init_weights={model}", "--data=SHARDS")


if __name__ == "__main__":
    cli.run(main)
