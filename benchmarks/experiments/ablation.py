"""Measures what single settings of a recipe are worth: trainings of equal length that differ in one setting.

  python -m benchmarks.experiments.ablation --data=data/imagenette
      recipe imagenette at 64 px and 3 epochs, evaluated at 80 px; every variant with seeds 0 and 1
  python -m benchmarks.experiments.ablation --data=data/imagenette --variants="base,mixup 0.2" --epochs=20 --seeds=0,1,2

Each training has a run folder. Finished trainings are not repeated, so a stopped ablation resumes. It prints a
table: the mean val top-1 over the seeds, each seed's, and the difference from the unchanged recipe.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqznet.core import cli, console
from sqznet.core.errors import InputError
from sqznet.runs import history

VARIANTS = {  # name: flags that differ from the base
    "base": [],
    "no bypass": ["--bypass=none"],
    "no label smoothing": ["--label_smoothing=0"],
    "crop=window": ["--crop=window", "--resize_to=92"],
    "mixup 0.2": ["--mixup=0.2"],
    "CutMix 1": ["--cutmix=1"],
    "jitter 0.4": ["--jitter=0.4"],
    "RandAugment 4": ["--randaugment=4"],
    "erasing 0.25": ["--erasing=0.25"],
    "EMA 0.99": ["--ema=0.99"],
    "AdamW 0.003": ["--optimizer=adamw", "--learning_rate=0.003", "--weight_decay=0.05"],
    "no batch norm": ["--no-batch_norm", "--learning_rate=0.01"],
}


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("benchmarks.experiments.ablation", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of shards")
    parser.add_argument("--recipe", default="imagenette", help="what the variants differ from")
    parser.add_argument("--epochs", type=int, default=3, help="of every training")
    parser.add_argument("--seeds", default="0,1", help="each variant is trained with each of them")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="some of: " + ", ".join(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder of the run folders")
    args = parser.parse_args(argv)
    variants, seeds = args.variants.split(","), [int(each) for each in args.seeds.split(",")]
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        raise InputError(f"no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    common = [
        f"--data={args.data}", f"--recipe={args.recipe}", f"--epochs={args.epochs}", "--warmup_epochs=1",
        "--image_size=80", "--resize_to=80", "--train_sizes=0:64", f"--evaluate_every={args.epochs}",
    ]  # fmt: skip
    top1 = {name: [] for name in variants}
    for seed in seeds:
        for name in variants:
            folder = args.runs / f"{name.replace(' ', '-')}-{seed}"
            top1[name].append(_train(folder, [*common, *VARIANTS[name], f"--seed={seed}"], args.epochs))
            console.say(f"{folder.name}: val top-1 {console.percent(top1[name][-1])}")
    mean = {name: sum(values) / len(values) for name, values in top1.items()}
    base = mean.get("base")
    console.table(
        ["variant", "val top-1, mean", *(f"seed {seed}" for seed in seeds), "points from base"],
        [
            [
                name,
                console.percent(mean[name]),
                *(console.percent(value) for value in top1[name]),
                "-" if base is None or name == "base" else f"{100 * (mean[name] - base):+.2f}",
            ]
            for name in sorted(variants, key=lambda name: -mean[name])
        ],
        title=f"{args.recipe}, {args.epochs} epochs at 64 px, evaluated at 80 px, on {args.data}",
    )
    return 0


def _train(folder: Path, flags: list[str], epochs: int) -> float:
    """Trains unless that is done already; returns the last epoch's val top-1."""
    metrics = history.read(folder).metrics if (folder / "config.json").is_file() else []
    if len(metrics) < epochs:
        command = [sys.executable, "-m", "sqznet.train", *flags, f"--run_dir={folder}", "--resume"]
        subprocess.run(command, check=True)
        metrics = history.read(folder).metrics
    return metrics[-1]["val_top1"]


if __name__ == "__main__":
    cli.run(main)
