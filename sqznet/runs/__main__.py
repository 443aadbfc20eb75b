"""List the runs with accuracy, time, and the settings that differ from their recipe.

python -m sqznet.runs
    the runs in runs/, best first
python -m sqznet.runs --compare runs/A runs/B
    the differences of two runs in recipe and data, and their metrics by epoch
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet.core import cli
from sqznet.runs import history, run_folder, run_tables


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.runs", __doc__)
    parser.add_argument("--runs", type=Path, default=run_folder.RUNS, help="folder that contains the run folders")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="RUN", help="two run folders")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    if args.compare:
        run_tables.print_comparison(*map(history.read, args.compare))
    else:
        run_tables.print_runs(args.runs)
    return 0


if __name__ == "__main__":
    cli.run(main)
