"""Compress a trained network to a .sqz file of a few hundred kilobytes, and decode one to a file that phones run.

  python -m sqznet.compress
      the newest run, as small as one point of top-1 allows
  python -m sqznet.compress --model=squeezenet-v1.0 --data=data/imagenet --target=340kB --out=v1.0.sqz
  python -m sqznet.compress --model=runs/NAME --max_drop=0.5 --finetune_minutes=10
  python -m sqznet.compress --decode=v1.0.sqz --format=tflite
      an ordinary TFLite file (or keras, or onnx) with the same weights, bit for bit

Kernels become whole steps, chosen for their bits and for what the answers lose, on photographs of the training split;
what is lost in one weight is made up for in others. Sizes and accuracy of everything tried, measured on --split, go to
a table, a CSV file and a plot beside the .sqz file. A .sqz file will do wherever a model is asked for. docs/compress.md
says how it works, docs/sqz.md what is in a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from sqznet.core import cli, console, files, locks, metrics, remote, sizes
from sqznet.core.errors import CheckFailed, InputError
from sqznet.network import coverage

OUT = Path("export/compressed")
RECORDS = 5000
MAX_DROP = 1.0
FORMATS = ("keras", "tflite", "onnx")


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.compress", __doc__)
    parser.add_argument(
        "--model", "--weights", type=Path, help="run folder, .keras file or published weights; default the newest run"
    )
    parser.add_argument(
        "--data", type=remote.folder, help="shards to calibrate (train) and to measure on; default those of the run"
    )
    parser.add_argument("--target", type=sizes.parse, help="most bytes: 340kB, 0.3MB or plain bytes")
    parser.add_argument(
        "--max_drop",
        type=cli.within(0, 100),
        help="most top-1 it may lose, in points; default 1 where there is no --target",
    )
    parser.add_argument("--split", help="split to measure on; default test, or val where there is no test")
    parser.add_argument("--records", type=cli.whole, default=RECORDS, help="records to measure on; 0 means all")
    parser.add_argument("--calibration_records", type=cli.positive, default=256, help="training records to round for")
    parser.add_argument(
        "--sparsity", type=cli.share, default=0.0, help="share of all weights to prune first, 0 to below 1"
    )
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--measure", action=switch, default=True, help="steps by each layer's measured sensitivity")
    parser.add_argument("--compensate", action=switch, default=True, help="make up for each error in other weights")
    parser.add_argument("--count_bits", action=switch, default=True, help="prefer integers that take fewer bits")
    parser.add_argument(
        "--finetune_minutes",
        type=cli.non_negative,
        default=0.0,
        help="learn from the uncompressed network for so long at the end",
    )
    parser.add_argument("--points", type=cli.whole, default=0, help="further sizes to try, for the curve")
    parser.add_argument("--decode", type=Path, metavar="FILE", help="decode a .sqz file instead of writing one")
    parser.add_argument("--format", choices=FORMATS, default="keras", help="what to decode to")
    parser.add_argument("--out", type=Path, help=f"the file to write; default {OUT}/NAME.sqz, or beside the .sqz file")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    max_drop = MAX_DROP if args.max_drop is None and args.target is None else args.max_drop
    from sqznet.core import startup
    from sqznet.data import manifest as manifests
    from sqznet.predict import inference
    from sqznet.runs import run_folder

    startup.load_tensorflow()
    from sqznet.compress import compressor, rate_search
    from sqznet.export import previous

    if args.decode:
        return _decode(args.decode, args.format, args.out)
    source = args.model or run_folder.newest(run_folder.BEST)
    trained, card = inference.load_keras(source)
    manifest = manifests.load(args.data or run_folder.trained_on(card, source))
    out = args.out or OUT / f"{source.stem if source.is_file() else source.name}.sqz"
    if out.suffix != ".sqz":
        raise InputError(f"--out={out} must end in .sqz")
    stages = compressor.Stages(args.measure, args.compensate, args.count_bits, args.sparsity, args.finetune_minutes)
    split = args.split or ("test" if "test" in manifest.splits else "val")
    lock, remedy = locks.beside(out), "wait for it, or name another --out"
    allowed = None if max_drop is None else max_drop / 100
    with locks.locked(lock, f"compresses to {out}", wait=False, remedy=remedy):
        with previous.state_on_failure(lambda: _stands(out)):
            older = _described(out) if out.is_file() else None
            made = compressor.Compressor(
                source,
                trained,
                card,
                manifest,
                stages=stages,
                split=split,
                records=args.records or None,
                calibration_records=args.calibration_records,
            )
            too_few = metrics.too_few_records(made.reference.score.n, manifest.records(split), allowed)
            if too_few:
                console.say(f"warning: {too_few}")
            points, chosen = made.compress(args.target, allowed, args.points)
            real = made.reference.score.top1
            measured = made.reference.coverage
            rate_search.print_table(points, chosen, real, measured)
            for warning in (too_few, coverage.warning(measured, made.fitted_to)):
                if warning:
                    console.result(f"warning: {warning}")
            if chosen is None:
                smallest = min(points, key=lambda each: each.bytes)
                raise CheckFailed(
                    f"nothing tried holds to {'' if args.target is None else f'--target={args.target} '}"
                    f"{'' if max_drop is None else f'--max_drop={max_drop:g} '}on {smallest.n:,} records of {split}: "
                    f"the smallest has {smallest.bytes:,} bytes and loses {100 * smallest.drop:.2f} points"
                )
            files.write_bytes(out, chosen.data)
        title = f"{source.name} on {split} of {remote.published(manifest.folder)}, n = {chosen.n:,}, {measured}"
        compressor.write_curve(points, chosen, real, out, title, measured=measured, fitted_to=made.fitted_to)
        console.result(f"{out}: {chosen.bytes:,} bytes; curve: {compressor.curve_of(out, '.png')}")
        if older:
            console.result(f"replaced: {older}")
        console.next_step("sqznet.evaluate", f"--model={out}", f"--data={manifest.folder}", f"--against={source}")
        return 0


def _described(path: Path) -> str:
    """A .sqz file that is there, in words."""
    from sqznet.network.sqz import decoder

    written = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
    try:
        found = decoder.decode(path.read_bytes())
        network = f"{found.arch}, {found.activation}, {found.classes:,} classes"
    except (OSError, ValueError):
        network = "no .sqz file that can be decoded"
    return f"{files.size_of(path):,} bytes of {written} ({network})"


def _stands(out: Path) -> str:
    """What a compression that has failed leaves, in words."""
    if not out.is_file():
        return f"nothing was written, and {out} does not exist"
    return f"nothing was written; {out}, {_described(out)}, stands as it was"


def _decode(path: Path, format_name: str, out: Path | None) -> int:
    from sqznet.core import startup
    from sqznet.export import onnx, tflite
    from sqznet.network import fold, keras_file, metadata
    from sqznet.network.sqz import convert as network

    model, card = network.load(path)
    if out is None:
        out = path.with_suffix(f".{format_name}")
        if out.exists():
            raise InputError(
                f"{out} exists, and may be the network that {path.name} was compressed from; nothing was written. Name "
                f"the file to write: --out=NAME.{format_name}"
            )
    if format_name == "keras":
        if card.classes is None:
            raise InputError(
                f"{path} does not name its classes, which a .keras file of sqznet has to; take another format"
            )
        keras_file.save(model, card, out)
    else:
        folded = fold.inference_model(model, card.preprocessing.image_size)
        with files.replacing(out) as temporary, startup.quiet():
            if format_name == "tflite":
                tflite.write(folded, temporary, "none")
            else:
                onnx.write(folded, temporary, "none", "NHWC")
            # A card names the classes; numbers will do, as they do where the .sqz file itself is used.
            numbers = tuple(map(str, range(model.output_shape[-1])))
            named = card if card.classes else dataclasses.replace(card, classes=numbers)
            metadata.add_card(temporary, format_name, named, path.stem)
    console.result(f"{out}: {files.size_of(out):,} bytes, from {files.size_of(path):,}")
    return 0


if __name__ == "__main__":
    cli.run(main)
