"""Trains on small sets of one's own, and scores them on true validation photographs.

  python -m benchmarks.experiments.small_sets --photographs=../shared/data/imagenette
      --weights=../shared/data/weights/squeezenet_v1.1_caffe_fp16.npz

(one line.) Makes folders of three classes of Imagenette under other names, with the first 60, 12 and 6 of their train
photographs, and one of the 150 true ImageNet validation photographs of these classes. Builds shards of them, trains,
and prints top-1 on the 150 with its 95 % interval. Finished trainings are not repeated.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from sqznet.core import cli, console

CLASSES = {"n03000684": "chain saw", "n03417042": "Müllwagen [groß]", "n03445777": "golf ball"}
WHOLE = ["--global_batch_size=64"]  # the recipe's own batch, so that nothing is fitted to the set
ROWS = [  # photographs of a class, recipe, flags
    (60, "finetune", [*WHOLE, "--learning_rate=2e-3"]),
    (60, "finetune", []),
    (60, "finetune", ["--epochs=16"]),
    (12, "finetune", []),
    (12, "finetune", ["--epochs=32"]),
    (6, "finetune", ["--epochs=64"]),
    (60, "imagenette", [*WHOLE, "--learning_rate=0.1"]),
    (60, "imagenette", []),
    (12, "imagenette", []),
]


def main() -> int:
    parser = cli.parser("benchmarks.experiments.small_sets", __doc__)
    parser.add_argument("--photographs", type=Path, required=True, help="Imagenette: train/ and val/ of WordNet ids")
    parser.add_argument("--weights", required=True, help="published weights, by name or path")
    parser.add_argument("--work", type=Path, default=Path("runs/small_sets"), help="folder for sets and runs")
    parser.add_argument("--rows", help="numbers of the trainings to do, from 0 on, such as 1,3; default all")
    args = parser.parse_args()
    numbers = range(len(ROWS)) if args.rows is None else map(int, args.rows.split(","))
    true = [path for path in sorted(args.photographs.glob("*/*/*")) if path.name.startswith("ILSVRC2012_val_")]
    build(args.work, "true", true, ["--test_files=*"])
    rows = []
    for number in numbers:
        count, recipe, flags = ROWS[number]
        learned = [
            path for name in CLASSES for path in sorted((args.photographs / "train" / name).glob(f"{name}_*"))[:count]
        ]
        build(args.work, str(count), learned, [])
        folder = args.work / f"run-{number}"
        weights = [f"--init_weights={args.weights}"] if recipe == "finetune" else []
        run(
            "train",
            f"--data={args.work}/{count}",
            f"--recipe={recipe}",
            *weights,
            *flags,
            f"--run_dir={folder}",
            "--resume",
        )
        run("evaluate", f"--model={folder}", f"--data={args.work}/true", "--split=test")
        scored = json.loads((folder / "evaluation-test.json").read_text())
        config = json.loads((folder / "config.json").read_text())["recipe"]
        rows.append([count, recipe, config["global_batch_size"], config["learning_rate"], config["epochs"], scored])
        console.say(str(rows[-1]))
    return 0


def build(work: Path, name: str, photographs: list[Path], flags: list[str]) -> None:
    """Copies the photographs of the three classes into a folder, and builds shards of it."""
    folder = work / f"photographs-{name}"
    for path in photographs:
        if path.parent.name in CLASSES:
            target = folder / CLASSES[path.parent.name] / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    run("data", f"--source=folder:{folder}", f"--out={work}/{name}", *flags)


def run(command: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", f"sqznet.{command}", *flags], check=True)


if __name__ == "__main__":
    cli.run(main)
