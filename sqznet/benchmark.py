"""How fast exported files are on this machine, and how much memory they add.

  python -m sqznet.benchmark --what=infer --model=export/artifacts/NAME
      every file of an exported bundle, with 1 and with 2 threads
  python -m sqznet.benchmark --what=infer --model=model.tflite --threads=1,2,4 --runs=200 --out=latency.json
      one file: .tflite, .onnx, a SavedModel folder, .keras or a run folder

Each file runs in its own runtime, on the processor, with one photograph at a time (batch 1), in a process of its own
for each number of threads: 5 runs to warm up, then --runs that count. The time is from uint8 pixels in memory to
probabilities; decoding and scaling of the photograph are not in it.

"peak memory" is how far the resident memory of that process rose at most, by importing the runtime, loading the file
and running it; "of it runtime" is what the import alone took. What Python and NumPy took before is not in it. The
figures compare files on this machine: a phone has another processor and other builds of the runtimes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from sqznet import cli, console
from sqznet.errors import InputError
from sqznet.training import run_folder

WHATS = ("infer",)
COLUMNS = ["file", "bytes", "threads", "median ms", "p90 ms", "peak memory MiB", "of it runtime MiB"]


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.benchmark", __doc__)
    parser.add_argument("--what", choices=WHATS, default="infer", help="what to measure")
    parser.add_argument("--model", type=Path, required=True, help="an exported bundle's folder, or one model")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, each measured on its own")
    parser.add_argument("--runs", type=int, default=50, help="runs that count, after the warm-up")
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    threads = parse_threads(args.threads)
    if args.runs < 1:
        raise InputError(f"--runs={args.runs} must be 1 or more")
    if args.out and args.out.is_dir():
        raise InputError(f"--out={args.out} is a folder; name a file, such as {args.out / 'latency.json'}")
    models = models_of(args.model)
    from sqznet import files, latency

    measured = []
    for path in models:
        for count in threads:
            console.say(f"measuring {path.name} with {count} {'thread' if count == 1 else 'threads'}")
            timing = latency.in_own_process(path, count, args.runs)
            measured.append(
                {"file": path.name, "bytes": files.size_of(path), "threads": count, **dataclasses.asdict(timing)}
            )
    processor = latency.processor()
    console.table(
        COLUMNS,
        [
            [each["file"], f"{each['bytes']:,}", each["threads"], f"{each['median_ms']:.2f}", f"{each['p90_ms']:.2f}"]
            + [f"{each['peak_mib']:.1f}", f"{each['runtime_mib']:.1f}"]
            for each in measured
        ],
        title=f"batch 1, {latency.WARM_UP} warm-ups, then {args.runs} runs, on {processor}",
    )
    if args.out:
        conditions = {"what": args.what, "batch": 1, "warm_up": latency.WARM_UP, "runs": args.runs}
        files.write_json(args.out, {**conditions, "processor": processor, "measured": measured})
        console.result(f"figures: {args.out}")
    return 0


def parse_threads(text: str) -> tuple[int, ...]:
    """The numbers of `1,2,4`.

    Raises:
        InputError: something between the commas is not a whole number of 1 or more, or is there twice.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) if part.isdecimal() else 0 for part in parts]
    if min(numbers) < 1 or len(set(numbers)) != len(numbers):
        raise InputError(f"--threads={text} must be different whole numbers of 1 or more, such as 1 or 1,2,4")
    return tuple(numbers)


def models_of(model: Path) -> list[Path]:
    """The model files of an exported bundle, in the order of their names, or the one model that is named; a run's best.

    Raises:
        InputError: no such path, or a manifest.json that cannot be read, or lists what is not there.
    """
    if not model.exists():
        raise InputError(
            f"no such file or folder: {model} (expected a bundle of `python -m sqznet.export`, or a model)"
        )
    manifest = model / "manifest.json"
    if not manifest.is_file():
        best = model / run_folder.BEST
        return [best if best.is_file() else model]  # of a run, the model without checkpoint and events
    try:
        names = sorted(json.loads(manifest.read_text())["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} is not that of an export ({type(error).__name__}: {error})") from None
    missing = next((name for name in names if Path(name).name != name or not (model / name).exists()), None)
    if missing is not None:
        raise InputError(f"{manifest} lists {missing!r}, and {model} has no such file: export again")
    if not names:
        raise InputError(f"{manifest} lists no model files: export again")
    return [model / name for name in names]


if __name__ == "__main__":
    cli.run(main)
