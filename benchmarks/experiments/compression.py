"""Measures what each stage of `sqznet.compress` is worth: the same network at the same size, with one more stage a row.

  python -m benchmarks.experiments.compression --model=runs/imagenette-long --data=data/imagenette-160 --target=120kB

Prints a table: bytes, points of top-1 lost with their paired 95 % interval, and divergence. Then
prints the bytes that other coders need for the integers of the row "+ bits counted".
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import zlib
from pathlib import Path

from sqznet.core import console, sizes, startup
from sqznet.data import manifest as manifests
from sqznet.predict import inference

STAGES = {  # each row adds a stage to the row before
    "one step in deviations, nearest integer": {
        "measure": False,
        "compensate": False,
        "count_bits": False,
    },
    "+ steps by measured sensitivity": {"compensate": False, "count_bits": False},
    "+ error compensation": {"count_bits": False},
    "+ bits counted": {},
    "+ half of the weights pruned first": {"sparsity": 0.5},
    "bits counted, + learning": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--target", default="120kB")
    parser.add_argument("--split", default="val")
    parser.add_argument("--minutes", type=float, default=3.0, help="of learning")
    args = parser.parse_args()
    startup.load_tensorflow()
    from sqznet.compress import compressor, curve

    trained, card = inference.load_keras(args.model)
    rows, packed = [], b""
    for name, flags in STAGES.items():
        minutes = args.minutes if "learning" in name else 0.0
        target = sizes.parse(args.target)
        settings = compressor.Settings(target=target, **flags, finetune_minutes=minutes, split=args.split)
        made = compressor.Compressor(args.model, trained, card, manifests.load(args.data), settings)
        points, chosen = made.compress()
        chosen = chosen or min(points, key=lambda each: each.bytes)
        if name == "+ bits counted":
            packed = _integers(made, chosen)
            ours = chosen.bytes
        rows.append(_row(name, chosen))
        curve.print_table(points, chosen, made.reference.score.top1, made.reference.coverage)
    console.table(["stages", "bytes", "points lost", "95 % interval", "divergence, nats"], rows, title=str(args.model))
    console.table(["coder", "bytes"], _coders(packed, ours), title="the same integers")


def _row(name: str, point) -> list[str]:
    low, high = (100 * each for each in point.interval)
    return [name, f"{point.bytes:,}", f"{100 * point.drop:.2f}", f"{low:.2f} to {high:.2f}", f"{point.divergence:.4f}"]


def _integers(made, chosen) -> bytes:
    """The integers of all kernels, a byte each where that is enough."""
    found = made.rounder.round(chosen.price)
    return b"".join(
        each.values.astype("i1" if abs(each.values).max() < 128 else "<i2").tobytes() for each in found.values()
    )


def _coders(packed: bytes, ours: int) -> list[list[str]]:
    import brotli
    import zstandard

    sizes = {
        "asymmetric numeral systems, tables by channel (the whole .sqz file)": ours,
        "zlib 9": len(zlib.compress(packed, 9)),
        "bzip2 9": len(bz2.compress(packed, 9)),
        "xz 9": len(lzma.compress(packed, preset=9)),
        "zstd 22": len(zstandard.ZstdCompressor(level=22).compress(packed)),
        "brotli 11": len(brotli.compress(packed, quality=11, lgwin=24)),
    }
    return [[name, f"{size:,}"] for name, size in sizes.items()]


if __name__ == "__main__":
    main()
