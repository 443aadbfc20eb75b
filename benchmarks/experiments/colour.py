"""Measures what a colour profile costs: the same photographs, tagged sRGB, Display P3, Adobe RGB and ProPhoto.

  python -m benchmarks.experiments.colour --photographs=../shared/data/imagenet_sample
      --weights=../shared/data/weights/squeezenet_v1.1_caffe_fp16.npz

(one line.) The pixels of each photograph are converted to the profile, so that the colours are the same, and saved as a
JPEG of quality 98 with the profile. Prints top-1, and the points lost against the photographs tagged sRGB.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from sqznet.core import cli, console, metrics, startup
from sqznet.images import decode, resize
from sqznet.predict import inference
from tests import icc

PROFILES = {
    "sRGB": icc.srgb(),
    "Display P3": icc.display_p3(),
    "Adobe RGB": icc.adobe_rgb(),
    "ProPhoto": icc.prophoto(),
}


def main() -> int:
    parser = cli.parser("benchmarks.experiments.colour", __doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of <WordNet id>/*.JPEG")
    parser.add_argument("--weights", type=Path, required=True, help="a model that knows these classes")
    args: argparse.Namespace = parser.parse_args()
    startup.load_tensorflow()
    predictor = inference.load(args.weights)
    assert predictor.card.classes is not None
    files = sorted(args.photographs.glob("*/*.JPEG"))
    labels = np.array([predictor.card.classes.index(file.parent.name) for file in files])
    answers: dict[str, list[np.ndarray]] = {name: [] for name in PROFILES}
    with console.progress("photographs/s") as bar:
        for file in bar.track(files, description="scoring"):
            upright = Image.fromarray(decode.to_pixels(file.read_bytes()))
            seen = [
                resize.prepare(decode.to_pixels(_tagged(upright, profile)), predictor.card.preprocessing)
                for profile in PROFILES.values()
            ]
            for name, row in zip(PROFILES, predictor.predict(np.stack(seen)), strict=True):
                answers[name].append(row)
    scores = {name: metrics.score(np.stack(rows), labels) for name, rows in answers.items()}
    rows = []
    for name, score in scores.items():
        lost, (low, high) = metrics.drop(score, scores["sRGB"])
        rows.append(
            [name, score.n, console.percent(score.top1), f"{100 * lost:.2f}", f"{100 * low:.2f} to {100 * high:.2f}"]
        )
    console.table(["profile", "n", "top-1", "points lost", "95 % interval"], rows, title=str(args.photographs))
    return 0


def _tagged(image: Image.Image, profile: bytes) -> bytes:
    buffer = io.BytesIO()
    icc.from_srgb(image, profile).save(buffer, "JPEG", quality=98, subsampling=0, icc_profile=profile)
    return buffer.getvalue()


if __name__ == "__main__":
    cli.run(main)
