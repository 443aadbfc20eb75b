"""Build TFRecord shards from photographs.

  python -m sqznet.data --source=folder:photos --out=data/shards
  python -m sqznet.data --source=ilsvrc:/data/ILSVRC --out=/data/shards --short_side=256
  python -m sqznet.data --source=tfds:imagenette/320px-v2 --out=data/imagenette
  python -m sqznet.data --source=synthetic --out=data/demo
  python -m sqznet.data --source=ilsvrc:/data/ILSVRC --out=/data/shards --runner=beam --beam_options="--runner=Flink"
      on a cluster with Apache Beam; all workers must see both folders under the same paths
  python -m sqznet.data --source=folder:photos --out=data/shards --update
      rebuilds the set after photographs were added or removed
  python -m sqznet.data --verify --out=data/shards
  python -m sqznet.data --report --out=data/shards
      writes dataset.html: duplicates, leaks between splits, sizes, extremes (docs/dataset_check.md)
  python -m sqznet.data --report --source=folder:photos --out=data/shards --predictions=val.npz
      the same before a build; with the predictions of a model, also likely label errors
  python -m sqznet.data --source=folder:photos --out=data/shards --exclude=data/shards/duplicates.csv

Sources:
  folder:PATH    folders train/<class>/* and val/<class>/* (test/<class>/* too), or <class>/* alone, which are split by
                 the seed; val/* with a file of labels; val/ or test/ alone, for evaluation; Tiny-ImageNet
  ilsvrc:PATH    ImageNet CLS-LOC: Data/, ImageSets/ and the devkit, or the files of Kaggle; 50 photographs of each
                 class become the test split
  tfds:NAME      an image-classification set of TensorFlow Datasets, or the folder of one
  tfrecord:PATH  shards of another builder (train-00000-of-00008, ...); PATH may end in a pattern, as in /*-fft-*
  synthetic      the built-in demo set: 4,100 drawings of ten objects

The command writes the shards, manifest.json and rejects.csv. manifest.json contains classes, counts, checksums, channel
means and notes. rejects.csv lists the files that could not be used, with the reason. After an interruption, the same
command finishes the set.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sqznet import recipes
from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError
from sqznet.data.manifest import Manifest
from sqznet.images.decode import MAX_PIXELS
from sqznet.recipes import fitting


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.data", __doc__)
    add = parser.add_argument
    add("--source", help="the photographs; see above")
    add("--out", type=Path, required=True, help="folder of the set")
    add("--seed", type=cli.whole, default=0, help="seed of the splits and of the order")
    add("--holdout_per_class", type=cli.whole, help="photographs of each class to move from train to test; ilsvrc: 50")
    add("--test_files", help="photographs with matching file names become the test split, as in 'ILSVRC2012_val_*'")
    add("--blacklist", action="store_true", help="ilsvrc: leave out the blacklisted val photographs")
    add("--label_offset", type=cli.integer, help="tfrecord: number to add to every label; needed if no label is 0")
    add("--short_side", type=cli.positive, help="shrink photographs to this short side, in pixels")
    add("--decoded", action="store_true", help="store pixels instead of JPEGs: 9 times the bytes, read 10 %% faster")
    add("--max_pixels", type=cli.positive, default=MAX_PIXELS, help="reject photographs with more pixels")
    add("--shard_records", type=cli.positive, help="photographs in a shard; default: 64 to 1,024, by set size")
    add("--strict", action="store_true", help="stop at the first file that cannot be used")
    add("--workers", type=cli.positive, default=startup.cores(), help="processes; default: all cores of this process")
    add("--runner", choices=("local", "beam"), default="local", help="beam: Apache Beam (pip install 'sqznet[beam]')")
    add("--beam_options", help="flags for Beam, in quotes; default: Beam's runner in this process")
    add("--update", action="store_true", help="rebuild the set in --out if its photographs or the options have changed")
    add("--exclude", type=Path, help="leave out the photographs that this duplicates.csv or suspects.csv marks")
    add("--report", action="store_true", help="check the photographs of --source, or of the set in --out")
    add("--predictions", type=Path, action="append", help="with --report: a file of sqznet.evaluate --predictions")
    add("--verify", action="store_true", help="check the set in --out against its manifest")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    startup.load_tensorflow()
    from sqznet.data import build, shard_plan, summary

    if args.verify:
        summary.print_counts(build.verify(args.out))
        console.result(f"{args.out}: every byte and record is as the manifest says")
        return 0
    if args.predictions and not args.report:
        raise InputError("--predictions goes with --report")
    if args.report:
        return _report(args)
    if not args.source:
        raise InputError("give --source=folder:PATH (or ilsvrc:, tfds:, tfrecord:, synthetic), --verify or --report")
    if args.beam_options is not None and args.runner != "beam":
        raise InputError("--beam_options goes with --runner=beam")
    manifest = build.build(
        args.source,
        args.out,
        seed=args.seed,
        options=shard_plan.BuildOptions(args.max_pixels, args.short_side, args.decoded, args.strict),
        **_listing(args),
        exclude=args.exclude,
        shard_records=args.shard_records,
        workers=args.workers,
        beam_flags=(args.beam_options or "") if args.runner == "beam" else None,
        replace=args.update,
    )
    summary.print_counts(manifest)
    if {"train", "val"} <= set(manifest.splits):
        console.next_step("sqznet.train", f"--data={args.out}", *_training_flags(args.source, manifest))
    else:
        console.next_step("sqznet.evaluate", "--model=MODEL", f"--data={args.out}")
    return 0


def _listing(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the flags that decide which photographs a source lists, as arguments of `sources.open_source`."""
    return {name: getattr(args, name) for name in ("holdout_per_class", "blacklist", "label_offset", "test_files")}


def _report(args: argparse.Namespace) -> int:
    from sqznet.data import exclusion, predictions, sources
    from sqznet.data import manifest as manifests
    from sqznet.data.survey import photographs, report

    found = [predictions.load(path) for path in args.predictions or []]
    if args.source is None:
        if args.exclude:
            raise InputError("--exclude goes with --source: a built set keeps its records; build it again")
        of: photographs.Photographs = photographs.Stored(manifests.load(args.out))
    else:
        with console.doing(f"listing {args.source}"):
            source = sources.open_source(args.source, seed=args.seed, **_listing(args))
        if args.exclude:
            source = exclusion.without(source, exclusion.read(args.exclude), args.exclude)
        of = photographs.Listed(args.source, source)
    report.report(of, args.out, found, args.max_pixels)
    return 0


def _training_flags(source: str, manifest: Manifest) -> list[str]:
    """Returns flags for training on the set.

    Trainings on small sets start from published weights, except on the synthetic set.
    """
    records = manifest.records("train")
    if source == "synthetic":
        return [f"--recipe={recipes.DEMO.name}"]
    if records < fitting.MANY:
        return ["--recipe=finetune", "--init_weights=squeezenet-v1.1"]
    return [f"--recipe={fitting.default_recipe(records, False)}"]


if __name__ == "__main__":
    cli.run(main)
