"""Measures what `data --report` finds of planted duplicates and label errors among 4,000 photographs of Imagenette.

  python -m benchmarks.experiments.dataset_check --out=FOLDER
  python -m benchmarks.experiments.dataset_check --changes
  python -m benchmarks.experiments.dataset_check --hashes=1000000

The script copies 400 photographs of each class into two halves of 200, plants copies of photographs of one half in the
other one, and gives other classes to some photographs. Each half is the val split of one set and the train split of
another one. A network is fine-tuned on each train split and finds label errors in the val split. The copies and the
label errors are drawn by the seed. Finished steps in FOLDER are not repeated.

--changes shows the similarity of 60 photographs and their changed copies. --hashes measures the time to compare one of
the variants of this number of random hashes.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from sqznet.core import cli, console, files
from sqznet.core.errors import InputError
from sqznet.data.survey import duplicates, measures

SHARED = Path("../shared/data")
PER_CLASS = 200  # photographs of each class in each half
EXACT, NEAR, WRONG = 50, 50, 40  # planted in both halves together
SIZE, EPOCHS = 128, 3
SUSPECTS = 60  # how many of the first suspects are compared with the planted ones
PLANTED_QUALITY, COMPARED_QUALITY = 85, 70  # of the JPEGs
COMPARED = 60  # photographs of --changes
KINDS = ("recompressed", "resized", "cropped", "mirrored")
SETS = {"a": ("one", "two"), "b": ("two", "one")}  # the halves in train and val


def main() -> int:
    parser = cli.parser("benchmarks.experiments.dataset_check", __doc__)
    parser.add_argument("--photographs", type=Path, default=SHARED / "imagenette", help="folder of Imagenette")
    parser.add_argument(
        "--init_weights", default=str(SHARED / "weights/squeezenet_v1.1_caffe_fp16.npz"), help="file or name"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the photographs and of what is planted")
    parser.add_argument("--out", type=Path, help="folder for photographs, shards, runs and reports")
    parser.add_argument("--changes", action="store_true", help="show the similarity of changed copies")
    parser.add_argument("--hashes", type=cli.positive, help="measure the comparison of this number of hashes")
    args = parser.parse_args()
    if args.changes:
        _print_changes(args.photographs, args.seed)
        return 0
    if args.hashes:
        _print_time(args.hashes)
        return 0
    if not args.out:
        raise InputError("give --out=FOLDER, --changes or --hashes=NUMBER")
    console.stop_heartbeat()  # the commands print their own progress
    planted = _plant(args.photographs, args.out, args.seed)
    for name in SETS:
        _examine(args.out, name, args.init_weights)
    _print(args.out, planted)
    return 0


def _plant(photographs: Path, out: Path, seed: int) -> dict:
    """Makes both sets of photographs. Returns what is planted: paths without the split, and the kind of each copy."""
    record = out / "planted.json"
    if record.is_file():
        return json.loads(record.read_text())
    random = np.random.default_rng(seed)
    halves: dict[str, list[tuple[str, Path]]] = {"one": [], "two": []}
    classes = sorted(path.name for path in (photographs / "train").iterdir())
    for name in classes:
        found = sorted([*(photographs / "train" / name).iterdir(), *(photographs / "val" / name).iterdir()])
        chosen = random.choice(len(found), 2 * PER_CLASS, replace=False)
        for half, some in zip(halves, np.array_split(chosen, 2), strict=True):
            halves[half] += [(name, found[index]) for index in some]
    content: dict[str, dict[str, bytes]] = {"one": {}, "two": {}}
    planted: dict[str, dict] = {"exact": {}, "near": {}, "wrong": {}}
    for half, some in halves.items():
        wrong = set(random.choice(len(some), WRONG // 2, replace=False).tolist())
        for index, (name, path) in enumerate(some):
            label = str(random.choice([each for each in classes if each != name])) if index in wrong else name
            content[half][f"{label}/{path.name}"] = path.read_bytes()
            if index in wrong:
                planted["wrong"][f"{label}/{path.name}"] = name
    correct = [key for key in content["one"] if key not in planted["wrong"]]
    for number, index in enumerate(random.choice(len(correct), EXACT + NEAR, replace=False)):
        key, copy = correct[index], f"{correct[index].partition('/')[0]}/copy_{number:03d}.jpg"
        if number < EXACT:
            content["two"][copy] = content["one"][key]
            planted["exact"][copy] = key
        else:
            kind = KINDS[number % len(KINDS)]
            content["two"][copy] = _changed(content["one"][key], kind, random)
            planted["near"][copy] = [key, kind]
    for name, in_splits in SETS.items():
        for split, half in zip(("train", "val"), in_splits, strict=True):
            for key, photograph in content[half].items():
                path = out / f"photographs-{name}" / split / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(photograph)
    files.write_json(record, planted)
    return planted


def _changed(photograph: bytes, kind: str, random: np.random.Generator) -> bytes:
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    width, height = image.size
    quality = PLANTED_QUALITY
    if kind == "recompressed":
        quality = 40
    elif kind == "resized":
        image = image.resize((round(0.8 * width), round(0.8 * height)), Image.Resampling.LANCZOS)
    elif kind == "cropped":
        side = (round(0.95 * width), round(0.95 * height))
        left, top = (int(random.integers(0, whole - part + 1)) for whole, part in zip(image.size, side, strict=True))
        image = image.crop((left, top, left + side[0], top + side[1]))
    else:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _jpeg(image, quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _print_changes(photographs: Path, seed: int) -> None:
    """Prints the smallest similarity of each change, and the largest difference of the nearest hashes."""
    paths = sorted(photographs.rglob("*.JPEG"))
    similarities: dict[str, list[float]] = {}
    distances: dict[str, list[int]] = {}
    for index in np.random.default_rng(seed).choice(len(paths), COMPARED, replace=False):
        content = paths[index].read_bytes()
        one = measures.measure(content)
        for change, jpeg in _changes(Image.open(io.BytesIO(content)).convert("RGB")).items():
            other = measures.measure(jpeg)
            assert isinstance(one, measures.Measures) and isinstance(other, measures.Measures)
            both = np.array([one.hashes, other.hashes], np.uint64)
            nearest = min(np.bitwise_count(both[:, :1] ^ both[::-1]).min(axis=1))
            similarities.setdefault(change, []).append(duplicates.similarity_of(one.thumbnail, other.thumbnail))
            distances.setdefault(change, []).append(int(nearest))
    rows = [
        [
            change,
            f"{min(found):.3f}",
            max(distances[change]),
            sum(bits <= duplicates.LARGEST_DISTANCE for bits in distances[change]),
        ]
        for change, found in similarities.items()
    ]
    console.table(
        ["change", "smallest similarity", "largest difference, bits", f"of {COMPARED} with a similar hash"], rows
    )


def _changes(image: Image.Image) -> dict[str, bytes]:
    """Returns changed copies of a photograph as JPEGs."""
    width, height = image.size
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    def cropped(of: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
        """Cuts shares of the sides off."""
        x, y = round(left * width), round(top * height)
        return of.crop((x, y, width - round(right * width), height - round(bottom * height)))

    smaller = image.resize((round(0.8 * width), round(0.8 * height)), Image.Resampling.LANCZOS)
    changed = {
        "resized by 0.8": smaller,
        "cropped by 5 % at a corner": cropped(image, 0.05, 0.05, 0, 0),
        "cropped by 5 % at each side": cropped(image, 0.05, 0.05, 0.05, 0.05),
        "cropped by 5 % at uneven places": cropped(image, 0.03, 0.01, 0.02, 0.04),
        "cropped by 5 % at the bottom": cropped(image, 0, 0, 0, 0.05),
        "mirrored and cropped by 5 % at a corner": cropped(mirrored, 0.05, 0.05, 0, 0),
        "1.3 times brighter": image.point(lambda value: min(255, int(1.3 * value))),
    }
    jpegs = {change: _jpeg(each, COMPARED_QUALITY) for change, each in changed.items()}
    return {"recompressed with quality 30": _jpeg(image, 30), **jpegs}


def _print_time(number: int) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, (number, 1), dtype=np.uint64)
    started = time.process_time()
    duplicates.candidate_pairs(hashes)
    console.result(
        f"{time.process_time() - started:.1f} s of a core for one of {measures.VARIANTS} variants of {number:,} hashes"
    )


def _examine(out: Path, name: str, init_weights: str) -> None:
    """Builds a set, fine-tunes a network on train, and writes the report with its predictions for val."""
    source, shards, run = (out / f"{what}-{name}" for what in ("photographs", "shards", "run"))
    predictions, report = out / f"val-{name}.npz", out / f"report-{name}"
    if not (shards / "manifest.json").is_file():
        _run("data", f"--source=folder:{source}", f"--out={shards}")
    if not predictions.is_file():
        shutil.rmtree(run, ignore_errors=True)
        size = [f"--image_size={SIZE}", f"--resize_to={SIZE}", f"--epochs={EPOCHS}"]
        _run(
            "train",
            f"--data={shards}",
            "--recipe=finetune",
            f"--init_weights={init_weights}",
            *size,
            f"--run_dir={run}",
        )
        _run("evaluate", f"--model={run}", f"--data={shards}", "--split=val", f"--predictions={predictions}")
    if not (report / "dataset.html").is_file():
        report.mkdir(exist_ok=True)
        _run("data", "--report", f"--source=folder:{source}", f"--out={report}", f"--predictions={predictions}")


def _run(command: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", f"sqznet.{command}", *flags], check=True)


def _without_split(file: str) -> str:
    return file.partition("/")[2]


def _print(out: Path, planted: dict) -> None:
    with (out / "report-a" / "duplicates.csv").open() as file:
        found = {
            frozenset(map(_without_split, (row["file"], row["duplicate_of"]))): row["kind"]
            for row in csv.DictReader(file)
        }
    exact = {frozenset(pair) for pair in planted["exact"].items()}
    near = {frozenset((copy, key)): kind for copy, (key, kind) in planted["near"].items()}
    rows = [["exact duplicates", EXACT, sum(found.get(pair) == "exact" for pair in exact)]]
    for kind in KINDS:
        mine = [pair for pair, each in near.items() if each == kind]
        rows.append([f"near duplicates, {kind}", len(mine), sum(pair in found for pair in mine)])
    rows.append(["near duplicates", len(near), sum(pair in found for pair in near)])
    others = [pair for pair in found if pair not in exact and pair not in near]
    rows.append(["other pairs", 0, len(others)])
    suspects = []
    for name in SETS:
        with (out / f"report-{name}" / "suspects.csv").open() as file:
            suspects += [(float(row["margin"]), _without_split(row["file"])) for row in csv.DictReader(file)]
    first = [key for _, key in sorted(suspects)[:SUSPECTS]]
    rows.append([f"label errors, first {SUSPECTS} suspects", WRONG, len(set(first) & set(planted["wrong"]))])
    rows.append(
        [
            f"label errors, all {len(suspects):,} suspects",
            WRONG,
            len({key for _, key in suspects} & set(planted["wrong"])),
        ]
    )
    console.table(["planted", "photographs", "found"], rows, title=f"{out}")
    for pair in others:
        console.result(f"other pair: {' and '.join(sorted(pair))}")


if __name__ == "__main__":
    cli.run(main)
