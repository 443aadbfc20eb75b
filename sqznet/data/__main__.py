"""Photographs to TFRecord shards.

  python -m sqznet.data --source=folder:photos --out=data/shards
  python -m sqznet.data --source=ilsvrc:/data/ILSVRC --out=/data/shards --short_side=256
  python -m sqznet.data --source=tfds:imagenette/320px-v2 --out=data/imagenette
  python -m sqznet.data --source=synthetic --out=data/demo
  python -m sqznet.data --source=ilsvrc:/data/ILSVRC --out=/data/shards --runner=beam --beam_options="--runner=Flink"
      on a cluster that Apache Beam knows; workers see both folders under the same paths
  python -m sqznet.data --source=folder:photos --out=data/shards --update
      the same again, after photographs were added or removed
  python -m sqznet.data --verify --out=data/shards

Sources:
  folder:PATH    train/<class>/* and val/<class>/* (test/<class>/* too), or <class>/* alone, split by seed;
                 val/* and a file of labels; val/ or test/ alone, to evaluate on; Tiny-ImageNet
  ilsvrc:PATH    ImageNet CLS-LOC: Data/, ImageSets/ and the devkit, or as from Kaggle; 50 of each class are held out
                 as test
  tfds:NAME      an image-classification set of TensorFlow Datasets, or the folder of one
  tfrecord:PATH  shards of another builder (train-00000-of-00008, ...); PATH may end in a pattern, as in /*-fft-*
  synthetic      the built-in demo set: 4,100 drawings of ten objects

Writes shards, manifest.json (classes, counts, checksums, channel means, notes of what was not read) and rejects.csv
(files that could not be used, and why). Killed at any point, the same command finishes the set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sqznet import recipes
from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError

if TYPE_CHECKING:
    from sqznet.data.manifest import Manifest


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.data", __doc__)
    parser.add_argument("--source", help="where the photographs are; see above")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--seed", type=cli.whole, default=0, help="decides splits and order")
    parser.add_argument(
        "--holdout_per_class",
        type=cli.whole,
        help="photographs of each class moved from train to test; ilsvrc: 50",
    )
    parser.add_argument(
        "--test_files", help="photographs with such file names make up the test split, as in 'ILSVRC2012_val_*'"
    )
    parser.add_argument("--blacklist", action="store_true", help="ilsvrc: leave out blacklisted val photographs")
    parser.add_argument(
        "--label_offset", type=cli.integer, help="tfrecord: added to every label; needed where none is 0"
    )
    parser.add_argument("--short_side", type=cli.positive, help="shrink photographs to this short side, in pixels")
    parser.add_argument(
        "--decoded",
        action="store_true",
        help="store pixels, not JPEGs: nine times the bytes, read a tenth faster",
    )
    parser.add_argument("--max_pixels", type=cli.positive, default=100_000_000, help="reject larger photographs")
    parser.add_argument(
        "--shard_records", type=cli.positive, help="photographs in a shard; default 64 to 1,024 by set size"
    )
    parser.add_argument("--strict", action="store_true", help="stop at the first file that cannot be used")
    parser.add_argument(
        "--workers",
        type=cli.positive,
        default=startup.cores(),
        help="processes; default all cores, or a container's share of them",
    )
    parser.add_argument(
        "--runner",
        choices=("local", "beam"),
        default="local",
        help="beam: Apache Beam (in a checkout: pip install -e '.[beam]')",
    )
    parser.add_argument("--beam_options", help="Beam's own flags, in quotes; default: its runner in this process")
    parser.add_argument(
        "--update",
        action="store_true",
        help="build anew where --out holds a set of the same source with other photographs or options",
    )
    parser.add_argument("--verify", action="store_true", help="re-read the set in --out against its manifest")
    return parser


def main(argv: list[str] | None = None) -> int:
    args, manifest = make(argv)
    if args.verify:
        return 0
    if {"train", "val"} <= set(manifest.splits):
        console.next_step("sqznet.train", f"--data={args.out}", *_training(args.source, manifest.records("train")))
    else:
        console.next_step("sqznet.evaluate", "--model=MODEL", f"--data={args.out}")
    return 0


def make(argv: list[str] | None = None) -> tuple[argparse.Namespace, Manifest]:
    """The flags, and the set that they have built or verified: all that the command does but what comes next."""
    args = make_parser().parse_args(argv)
    startup.load_tensorflow()  # first, since it says so: importing the modules below takes a second
    from sqznet.data import build, shards, sources, summary

    if args.verify:
        manifest = build.verify(args.out)
        summary.print_counts(manifest)
        console.result(f"{args.out}: every byte and record is as the manifest says")
        return args, manifest
    if not args.source:
        raise InputError("give --source=folder:PATH (or ilsvrc:, tfds:, tfrecord:, synthetic), or --verify")
    if args.beam_options is not None and args.runner != "beam":
        raise InputError("--beam_options goes with --runner=beam")
    names = ("holdout_per_class", "blacklist", "label_offset", "test_files")
    listing_options = {name: getattr(args, name) for name in names}
    with console.doing(f"listing {args.source}"):
        source = sources.open_source(args.source, seed=args.seed, **listing_options)
    manifest = build.build(
        source,
        args.out,
        spec=args.source,
        seed=args.seed,
        options=shards.Options(args.max_pixels, args.short_side, args.decoded, args.strict),
        # 0, not None, as in the manifests of earlier versions: the same command has to find their sets finished.
        listing_options={**listing_options, "label_offset": args.label_offset or 0},
        shard_records=args.shard_records,
        workers=args.workers,
        beam_flags=(args.beam_options or "") if args.runner == "beam" else None,
        replace=args.update,
    )
    summary.print_counts(manifest)
    return args, manifest


def _training(source: str, records: int) -> list[str]:
    """Flags that suit a set of so many training photographs: small ones start from published weights."""
    from sqznet.recipes import fitting

    if source == "synthetic":  # ImageNet's weights know no drawings
        return [f"--recipe={recipes.DEMO.name}"]
    weights = "--init_weights=squeezenet-v1.1"
    return (
        ["--recipe=finetune", weights]
        if records < fitting.MANY
        else [f"--recipe={fitting.default_recipe(records, False)}"]
    )


if __name__ == "__main__":
    cli.run(main)
