"""The five likeliest classes of any photographs.

  python -m sqznet.predict photo.jpg
      with the newest run; where nothing has been trained yet, with the sample network that comes along, which knows ten
      things (sqznet/predict/samples)
  python -m sqznet.predict --model=export/artifacts/NAME holiday/ --picture=sheet.png
      all photographs of a folder, with an exported bundle
  python -m sqznet.predict --model=squeezenet-v1.1 photo.jpg
      with published weights, which know 1,000 things (python -m sqznet.weights --list)
  python -m sqznet.predict --json holiday/ > answers.json

--model is a run folder, a bundle's folder, a .keras, .sqz, .tflite or .onnx file, a SavedModel folder, or published
weights. Photographs may be JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or PPM, and HEIC where the package pillow-heif is
installed. Of a folder, all files in it and below are read, those that are hidden or of the system aside. --picture
writes a sheet of the first 48 with the predictions. Of equal probabilities the first class ranks first.

A photograph that cannot be read is named, the others are answered all the same, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core import cli, console, files
from sqznet.core.errors import InputError, NotAnImage, Reject
from sqznet.images import geometry

if TYPE_CHECKING:
    import numpy as np

    from sqznet.data.sources.walk import Walk
    from sqznet.predict.inference import Predictor


SAMPLE = Path(__file__).parent / "samples" / "imagenette" / "model_int8.tflite"
BAR_FROM = 10  # photographs: fewer are done before a bar can be read
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:")


@dataclass(frozen=True)
class Answer:
    """The likeliest classes of one photograph."""

    photo: Path
    pixels: np.ndarray | None  # what the network saw: uint8 RGB, (image_size, image_size, 3); of the first ones only
    best: list[int]  # classes, the likeliest first
    probabilities: list[float]  # of these

    def to_dict(self, classes: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Any]:
        return {
            "photograph": str(self.photo),
            "predictions": [
                {
                    "rank": rank,
                    "index": index,
                    "class": classes[index],
                    "name": names[index],
                    "probability": probability,
                }
                for rank, (index, probability) in enumerate(zip(self.best, self.probabilities, strict=True), start=1)
            ],
        }


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.predict", __doc__)
    parser.add_argument("photos", nargs="+", help="image files, and folders of them")
    parser.add_argument("--model", "--weights", type=Path, help="default the newest run, or else the sample")
    parser.add_argument("--top", type=cli.positive, default=5, help="classes shown for each photograph")
    parser.add_argument("--picture", type=Path, help="write a sheet of photographs and predictions, as PNG")
    geometry.add_flags(parser)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print JSON in place of the table")
    forms.add_argument("--csv", action="store_true", help="print CSV in place of the table")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.picture and args.picture.is_dir():
        raise InputError(f"--picture={args.picture} is a folder; name a file, such as {args.picture / 'sheet.png'}")
    if args.picture:
        files.check_folder(args.picture.parent)
    photos = list_photos(args.photos)
    from sqznet.core import startup
    from sqznet.network import labels
    from sqznet.predict import inference

    path = inference.file_of(args.model or _default())
    if inference.needs_tensorflow(path):
        startup.load_tensorflow()
    predictor = inference.load(path).with_geometry(geometry.given(args))
    classes = predictor.card.classes or tuple(map(str, range(predictor.runtime.classes)))
    names = labels.readable(classes)
    answers, failures = answer(photos, predictor, args.top)
    if args.json:
        found = [each.to_dict(classes, names) for each in answers]
        content = {
            "model": str(path),
            "preprocessing": predictor.card.preprocessing.to_dict(),
            "geometry_override": predictor.geometry or None,
            "photographs": found,
            "errors": failures,
        }
        print(json.dumps(content, indent=1))
    elif args.csv:
        _print_csv(answers, classes, names)
    elif answers:
        rows = [
            [str(each.photo) if rank == 1 else "", rank, names[index], console.percent(probability)]
            for each in answers
            for rank, (index, probability) in enumerate(zip(each.best, each.probabilities, strict=True), start=1)
        ]
        console.table(["photograph", "rank", "class", "probability"], rows, title=str(path))
    if args.picture and answers:
        from sqznet.core import plots

        shown = [each for each in answers if each.pixels is not None]
        captions = [
            f"{console.printable(each.photo.name)}\n{names[each.best[0]]} {100 * each.probabilities[0]:.0f} %"
            for each in shown
        ]
        with console.doing("drawing the picture"):
            plots.prediction_sheet([each.pixels for each in shown if each.pixels is not None], captions, args.picture)
        console.say(f"picture: {args.picture}")
        if len(shown) < len(answers):
            console.say(
                f"note: it shows the first {len(shown)} of {len(answers):,} photographs; the table, --csv and --json "
                "have all"
            )
    for photo, reason in failures.items():
        console.say(f"error: {photo}: {reason}")
    if not (args.json or args.csv or failures):
        _tell_next(path)
    return 1 if failures else 0


def _tell_next(model: Path) -> None:
    from sqznet.predict import inference
    from sqznet.runs import run_folder

    if (model / run_folder.CONFIG).is_file():
        console.next_step("sqznet.export", f"--model={model}")
    elif (model.parent / "manifest.json").is_file():
        console.next_step("sqznet.serve", f"--model={model.parent}")
    elif inference.is_keras(model):
        console.next_step("sqznet.train", "--recipe=finetune", f"--init_weights={model}", "--data=SHARDS")


def list_photos(given: list[str]) -> dict[Path, bool]:
    """The files to read, in order; and of each whether it has to be a photograph: it was named, or its ending says so.

    Raises:
        InputError: an address; a folder without files.
    """
    from sqznet.data.sources import walk

    photos: dict[Path, bool] = {}
    for each in given:
        if _URL.match(each):
            raise InputError(f"{each[:100]} is an address, and predict fetches nothing: download it, and name the file")
        path = Path(each)
        if not _is_folder(path):
            photos[path] = True
            continue
        reading = walk.Walk(path)
        below = list(_files_below(reading, path, set()))
        for note in reading.notes():
            console.say(f"{path}: {note}")
        if not below:
            raise InputError(f"{path} is a folder without files to read; name photographs, or a folder of them")
        by_ending = set(walk.are_photographs(below))
        photos |= {file: file in by_ending for file in below if file not in photos}
    return photos


def _files_below(reading: Walk, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """The files of a folder, then those of its folders; each folder once, whatever links lead to it."""
    if folder.resolve() in seen:
        return
    seen.add(folder.resolve())
    folders, photos = reading.entries(folder)
    yield from photos
    for each in folders:
        yield from _files_below(reading, each, seen)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long for the system, which reading the file will say
        return False


def answer(photos: dict[Path, bool], predictor: Predictor, top: int) -> tuple[list[Answer], dict[str, str]]:
    """The answers, and of each photograph that could not be read the reason."""
    from sqznet.core import metrics, plots
    from sqznet.images import colour

    answers: list[Answer] = []
    failures: dict[str, str] = {}
    others: list[Path] = []  # files of folders that are no photographs at all
    with_broken_profile = 0
    for photo in _shown(photos):
        try:
            pixels, colours = read(photo, predictor)
        except NotAnImage as reason:
            if photos[photo]:
                failures[str(photo)] = str(reason)
            else:
                others.append(photo)
            continue
        except Reject as reason:
            failures[str(photo)] = str(reason)
            continue
        with_broken_profile += colours == colour.BROKEN
        (probabilities,) = predictor.predict(pixels[None])
        best = metrics.ranking(probabilities)[:top]
        drawn = pixels if len(answers) < plots.SHEET else None  # thousands of them would fill the memory
        answers.append(Answer(photo, drawn, best.tolist(), probabilities[best].tolist()))
    if others:
        what = console.counted(len(others), "file is no photograph and was", "files are no photographs and were")
        console.say(f"{what} left out, such as {others[0]}")
    if with_broken_profile:
        what = console.counted(with_broken_profile, "photograph has", "photographs have")
        verb = "was" if with_broken_profile == 1 else "were"
        console.say(f"{what} a broken colour profile and {verb} taken as sRGB")
    if not answers and not failures:
        raise InputError(
            f"{others[0]} is no photograph" if len(others) == 1 else f"none of {len(others)} files is a photograph"
        )
    return answers, failures


def _shown(photos: dict[Path, bool]) -> Iterator[Path]:
    """Each photograph, with a progress bar if there are many."""
    if len(photos) < BAR_FROM:
        yield from photos
        return
    with console.progress("images/s") as bar:
        yield from bar.track(photos, description="predicting")


def read(photo: Path, predictor: Predictor) -> tuple[np.ndarray, str]:
    """The pixels that the model sees of a photograph, uint8 (size, size, 3); and what was done to its colours.

    Raises:
        Reject: no such file, or one that cannot be used.
    """
    from sqznet.images import decode
    from sqznet.images import resize as pixels

    try:
        content = photo.read_bytes()
    except OSError as error:
        raise Reject(f"cannot be read: {error.strerror}") from None
    photograph, colours = decode.decode(content)
    return pixels.prepare(photograph, predictor.card.preprocessing), colours


def _print_csv(answers: list[Answer], classes: tuple[str, ...], names: tuple[str, ...]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["photograph", "rank", "index", "class", "name", "probability"])
    for each in answers:
        for row in each.to_dict(classes, names)["predictions"]:
            writer.writerow([console.printable(str(each.photo), keep=""), *row.values()])


def _default() -> Path:
    """The newest run, or the sample network, saying so.

    Raises:
        InputError: there is neither.
    """
    from sqznet.runs import run_folder

    try:
        return run_folder.newest(run_folder.BEST)
    except InputError:
        if not SAMPLE.is_file():
            raise
    console.say(
        f"no --model and no run in {run_folder.RUNS}/: using the sample {SAMPLE}, which knows ten things only "
        f"({SAMPLE.parent / 'labels.txt'}) and is for demonstration"
    )
    return SAMPLE


if __name__ == "__main__":
    cli.run(main)
