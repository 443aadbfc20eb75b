"""Start a cluster on this machine, to try a distributed training before it runs on several machines.

  python -m sqznet.launch --workers=2 -- --data=data/shards --recipe=imagenette
      two processes that train together, like two machines with --strategy=multiworker
  python -m sqznet.launch --data_workers=2 -- --data=data/shards
      one process that trains, and two that decode photographs (TensorFlow's data service)

sqznet.train gets the flags after `--`. Each line of output begins with the name of its process. When a process fails,
this command ends the other processes and returns the exit code of the failed process. To continue the run, add --resume
to the training flags of the same command. If this command is killed, the workers save their state and end. The
processes connect through 127.0.0.1, but TensorFlow's servers accept connections from any address. Do not use this
command on an open network.
"""

from __future__ import annotations

import argparse

from sqznet.core import cli
from sqznet.launch import local_cluster


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.launch", __doc__)
    parser.add_argument("--workers", type=cli.positive, default=1, help="processes that train together")
    parser.add_argument("--data_workers", type=cli.whole, default=0, help="processes that decode photographs")
    parser.add_argument("train_flags", nargs="*", metavar="-- FLAGS", help="flags of sqznet.train")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    return local_cluster.run(local_cluster.commands(args.workers, args.data_workers, args.train_flags))


if __name__ == "__main__":
    cli.run(main)
