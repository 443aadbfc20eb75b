"""The five likeliest classes of any photographs.

  python -m sqznet.predict photo.jpg
      with the newest run; where nothing has been trained yet, with the sample network that comes along, which knows ten
      things (export/samples)
  python -m sqznet.predict --model=export/artifacts/NAME/model.tflite holiday/*.jpg --picture=sheet.png
  python -m sqznet.predict --model=squeezenet-v1.1 photo.jpg
      with published weights, which know 1,000 things (python -m sqznet.weights --list)

--model is a run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file, or published weights.
Photographs may be JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or PPM. --picture writes a sheet of them with the predictions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sqznet import cli, console
from sqznet.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from sqznet.inference import Predictor


SAMPLE = Path("export/samples/imagenette/model_int8.tflite")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.predict", __doc__)
    parser.add_argument("photos", nargs="+", type=Path, help="image files")
    parser.add_argument("--model", "--weights", type=Path, help="default the newest run, or else the sample")
    parser.add_argument("--top", type=int, default=5, help="classes shown for each photograph")
    parser.add_argument("--picture", type=Path, help="write a sheet of photographs and predictions, as PNG")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.top < 1:
        raise InputError(f"--top={args.top} must be 1 or more")
    if args.picture and args.picture.is_dir():
        raise InputError(f"--picture={args.picture} is a folder; name a file, such as {args.picture / 'sheet.png'}")
    from sqznet import inference, labels, startup

    path = args.model or _default()
    if path.suffix not in inference.FILE_RUNTIMES:  # these are there sooner without TensorFlow
        startup.load_tensorflow()
    predictor = inference.load(path)
    names = labels.readable(predictor.card.classes or map(str, range(predictor.runtime.classes)))
    rows, images, captions = [], [], []
    for photo in args.photos:
        image = read(photo, predictor)
        (probabilities,) = predictor.predict(image[None])
        best = probabilities.argsort()[::-1][: args.top]
        rows += [
            [str(photo) if rank == 1 else "", rank, names[label], console.percent(probabilities[label])]
            for rank, label in enumerate(best, start=1)
        ]
        images.append(image)
        captions.append(f"{photo.name}\n{names[best[0]]} {100 * probabilities[best[0]]:.0f} %")
    console.table(["photograph", "rank", "class", "probability"], rows, title=str(path))
    if args.picture:
        from sqznet import plots

        plots.prediction_sheet(images, captions, args.picture)
        console.result(f"picture: {args.picture}")
    return 0


def _default() -> Path:
    """The newest run, or the sample network, saying so.

    Raises:
        InputError: there is neither.
    """
    from sqznet.training import run_folder

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


def read(photo: Path, predictor: Predictor) -> np.ndarray:
    """The pixels that the model sees of a photograph, uint8 (size, size, 3).

    Raises:
        InputError: no such file, or not an image.
    """
    from sqznet import pixels
    from sqznet.data import images

    try:
        return pixels.prepare(images.to_pixels(photo.read_bytes()), predictor.card.preprocessing)
    except OSError as error:
        raise InputError(f"cannot read {photo}: {error.strerror}") from None
    except images.Reject as reason:
        raise InputError(f"{photo}: {reason}") from None


if __name__ == "__main__":
    cli.run(main)
