"""Trains on uneven classes, with and without class weights and balanced sampling.

  python -m benchmarks.experiments.uneven_classes --photographs=../shared/data/imagenette
      --weights=../shared/data/weights/squeezenet_v1.1_caffe_fp16.npz

(one line.) Cuts the train split of Imagenette to about 2,380 photographs, so that the sizes of its ten classes fall
exponentially and the largest class is 50, 10 or 1 times the smallest. The seed decides which class gets which size, and
it is also the seed of the training. The classes have other names, so that no published output is used. val has 100
photographs of each class, and chooses the epoch. test has the other photographs of Imagenette's val split.

Each training has the fields of a row of STARTS and of a row of VARIANTS. With classes of equal size, all weights are 1
and each record is seen once, so all variants are equal, and only `none` is trained. Finished trainings are not
repeated. "Accuracy at the sizes of train" is the accuracy on photographs that come as often as in train, computed from
the recall of each class. Prints tables, and writes the figures (JSON) and a chart. A training takes about one minute on
two cores.
"""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

import sqznet
from sqznet.core import cli, console, files

TOTAL = 2_380  # training photographs of each set
VAL = 100  # photographs of each class in val
SEEDS = (0, 1, 2)
STARTS: dict[str, dict[str, Any]] = {
    "finetune": {"recipe": "finetune", "image_size": 96, "epochs": 3},
    "scratch": {"recipe": "imagenette", "image_size": 64, "epochs": 15, "evaluate_every": 3},
}
MEANS = {"largest": "recall, 3 largest", "smallest": "recall, 3 smallest", "as_train": "accuracy at the sizes of train"}
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "class_weights=balanced": {"class_weights": "balanced"},
    "class_weights=effective": {"class_weights": "effective"},
    "sampling=balanced": {"sampling": "balanced"},
}


def main() -> int:
    parser = cli.parser("benchmarks.experiments.uneven_classes", __doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="Imagenette: train/ and val/ of WordNet ids")
    parser.add_argument("--weights", required=True, help="published weights of v1.1, by name or path")
    parser.add_argument("--work", type=Path, default=Path("runs/uneven_classes"), help="folder for sets and runs")
    parser.add_argument("--ratios", default="50,10,1", help="largest class divided by the smallest class, a list")
    parser.add_argument("--starts", default=",".join(STARTS), help="rows of STARTS to train, a list")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="seeds, a list")
    parser.add_argument("--picture", type=Path, help="chart, a PNG file")
    args = parser.parse_args()
    build_test(args.photographs, args.work)
    found: list[dict[str, Any]] = []
    for ratio in map(int, args.ratios.split(",")):
        for start in args.starts.split(","):
            for seed in map(
                int, args.seeds.split(",")
            ):  # a whole seed first, so that an interrupted experiment compares all variants
                data = build_set(args.photographs, args.work, ratio, seed)
                for variant in VARIANTS if ratio > 1 else ["none"]:
                    found.append(measure(args, data, ratio, start, seed, variant))
                    console.say(str(found[-1]))
    files.write_json(args.work / "uneven_classes.json", found)
    print_tables(found)
    if args.picture:
        draw(found, args.picture)
    return 0


def sizes(ratio: int) -> list[int]:
    """Returns the training photographs of ten classes, the largest first."""
    shares = np.power(float(ratio), -np.arange(10) / 9)
    return [round(TOTAL * share / shares.sum()) for share in shares]


def ranks(seed: int) -> np.ndarray:
    """Returns the rank of each class by its size, 0 for the largest, int (10,)."""
    return np.random.default_rng(seed).permutation(10)


def build_set(photographs: Path, work: Path, ratio: int, seed: int) -> Path:
    """Builds the train and val splits of a ratio and a seed."""
    folder, out = work / f"photographs-{ratio}-{seed}", work / f"set-{ratio}-{seed}"
    for label, (synset, rank) in enumerate(zip(classes(photographs), ranks(seed), strict=True)):
        chosen = sorted((photographs / "train" / synset).iterdir())[: sizes(ratio)[rank]]
        copy(chosen, folder / "train" / f"class {label}")
        copy(sorted((photographs / "val" / synset).iterdir())[:VAL], folder / "val" / f"class {label}")
    sqznet.build_shards(f"folder:{folder}", out, short_side=128)
    return out


def build_test(photographs: Path, work: Path) -> None:
    """Builds the test split, which all sets share."""
    folder = work / "photographs-test"
    for label, synset in enumerate(classes(photographs)):
        copy(sorted((photographs / "val" / synset).iterdir())[VAL:], folder / f"class {label}")
    sqznet.build_shards(f"folder:{folder}", work / "test", test_files="*", short_side=128)


def classes(photographs: Path) -> list[str]:
    return sorted(path.name for path in (photographs / "train").iterdir())


def copy(paths: list[Path], folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for path in paths:
            shutil.copy(path, folder / path.name)


def measure(args, data: Path, ratio: int, start: str, seed: int, variant: str) -> dict[str, Any]:
    """Trains and evaluates, unless this is done already. Returns the figures."""
    folder = args.work / f"{start}-{ratio}-{seed}-{variant.replace('=', '-')}"
    result = folder / "evaluation-test.json"
    if not result.is_file():
        weights = args.weights if start == "finetune" else None
        fields = {**STARTS[start], **VARIANTS[variant]}
        # strategy: a process cannot make several MirroredStrategies.
        run = sqznet.fit(data, weights=weights, folder=folder, resume=True, strategy="one", seed=seed, **fields)
        files.write_json(result, run.best.evaluate(args.work / "test", "test").to_dict())
    score = json.loads(result.read_text())
    recall = np.array([each["recall"] for each in score["by_class"]])[
        np.argsort(ranks(seed))
    ]  # the largest class first
    return {
        "start": start,
        "ratio": ratio,
        "seed": seed,
        "variant": variant,
        "balanced_accuracy": score["balanced_accuracy"],
        "macro_f1": score["macro_f1"],
        "largest": float(recall[:3].mean()),
        "smallest": float(recall[-3:].mean()),
        "as_train": float(np.average(recall, weights=sizes(ratio))),
        "n": score["n"],
    }


def of(found: list[dict[str, Any]], figure: str, **where: Any) -> list[float]:
    """Returns a figure in percent, by seed."""
    return [100 * each[figure] for each in found if all(each[name] == value for name, value in where.items())]


def print_tables(found: list[dict[str, Any]]) -> None:
    for start, ratio in dict.fromkeys((each["start"], each["ratio"]) for each in found):
        here = {"start": start, "ratio": ratio}
        plain, rows = of(found, "balanced_accuracy", **here, variant="none"), []
        for variant in dict.fromkeys(each["variant"] for each in found if each["ratio"] == ratio):
            values = of(found, "balanced_accuracy", **here, variant=variant)
            gains = [value - before for value, before in zip(values, plain, strict=True)]
            means = [statistics.mean(of(found, name, **here, variant=variant)) for name in MEANS]
            gain = [f"{statistics.mean(gains):+.2f}", ", ".join(f"{each:+.2f}" for each in gains)]
            rows.append(
                [
                    variant,
                    f"{statistics.mean(values):.2f}",
                    ", ".join(f"{value:.2f}" for value in values),
                    *(gain if variant != "none" else ["", ""]),
                    *(f"{mean:.2f}" for mean in means),
                ]
            )
        columns = ["variant", "balanced accuracy, %", "by seed", "gain, points", "by seed", *MEANS.values()]
        console.table(columns, rows, title=f"{start}, 1:{ratio}, test n = {found[0]['n']:,}")


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draws the balanced accuracy of each training, and the mean of the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys((each["start"], each["ratio"]) for each in found))
    figure = Figure(figsize=(4 * len(groups), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (start, ratio) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        for place, variant in enumerate(VARIANTS):
            values = of(found, "balanced_accuracy", start=start, ratio=ratio, variant=variant)
            if not values:  # equal classes
                continue
            axes.plot([place] * len(values), values, "o", color=f"C{place}")
            axes.hlines(statistics.mean(values), place - 0.3, place + 0.3, color=f"C{place}")
        axes.set_xticks(range(len(VARIANTS)), [name.replace("=", "\n") for name in VARIANTS], fontsize=7)
        axes.set_title(f"{start}, 1:{ratio}")
        axes.set_ylabel("balanced accuracy, %")
        axes.grid(axis="y", alpha=0.3)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


if __name__ == "__main__":
    cli.run(main)
