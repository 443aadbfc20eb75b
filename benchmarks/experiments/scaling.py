"""Computes which cores, disks and networks feed a number of GPUs: arithmetic on measured and published rates.

  python -m benchmarks.experiments.scaling

Rates of GPUs: the article's for K80 and V100 in float32. The others are the V100's times the ratio of published memory
bandwidths, and times two for activations of half the bytes.
"""

from __future__ import annotations

import sys

from sqznet.core import console

EPOCH = 1_231_167  # images of the article's training split of ImageNet
V100 = 733  # images/s, by the article
BANDWIDTH = {"V100": 900, "A100": 2_039, "H100": 3_350, "H200": 4_800}  # GB/s, published
RATES = {"K80, float32": 142.0, "V100, float32": float(V100), "V100, float16": 2.0 * V100} | {
    f"{gpu}, bfloat16": 2 * V100 * BANDWIDTH[gpu] / BANDWIDTH["V100"] for gpu in ("A100", "H100", "H200")
}
# Of the shards: photographs as they are, --short_side=256, --short_side=256 --decoded.
PER_CORE_SECOND = (662, 1_354, 1_533)  # images, measured (benchmarks/README.md)
BYTES = (110_000, 30_114, 257_564)  # a record
GRADIENTS = 1.25e6 * 4 * 8  # bits, float32
IMAGES = 128  # a GPU and step
IN_A_MACHINE = 8  # GPUs


def main() -> int:
    rows = [row(name, rate, gpus) for name, rate in RATES.items() for gpus in (1, 8, 64, 512)]
    columns = ["GPU, format", "GPUs", "images/s", "an epoch", "cores", "MB/s read", "Gbit/s a machine"]
    console.table(columns, rows, title="v1.0, 227 px, ImageNet: originals / 256 px / decoded")
    return 0


def row(name: str, rate: float, gpus: int) -> list[str]:
    images = rate * gpus
    machines = gpus // IN_A_MACHINE
    # A ring of m machines sends 2 (m - 1) / m times the gradients, for each machine and step.
    network = 2 * (machines - 1) / machines * GRADIENTS * rate / IMAGES / 1e9 if machines > 1 else None
    return [
        name,
        f"{gpus}",
        f"{images:,.0f}",
        duration(EPOCH / images),
        " / ".join(short(images / each) for each in PER_CORE_SECOND),
        " / ".join(short(images * each / 1e6) for each in BYTES),
        "-" if network is None else f"{network:.1f}",
    ]


def duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.1f} s"


def short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
