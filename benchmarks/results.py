"""Keeps the measured figures as JSON records and writes the tables of the documents from them.

  python benchmarks/results.py
      writes every table of README.md, docs/results.md and benchmarks/README.md
  python benchmarks/results.py --check
      writes nothing; prints the tables that differ from the records, and exits with 1 if there are any
  python benchmarks/results.py --record=runs/demo-0 --name=demo
      stores the evaluation of a run as benchmarks/records/demo-0.json; the last number is the seed
  python benchmarks/results.py --record=runs/demo-0 --name=demo --bundle=export/artifacts/demo --core_seconds=281
      stores the exported files too, and the processor time of the training

A table stands between two comments, <!-- results:NAME --> and <!-- /results -->. Run --record on the machine and
the commit that trained the run, before the next commit.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqznet.core import cli, console, files, typed
from sqznet.core.errors import InputError
from sqznet.predict import latency

ROOT = Path(__file__).parents[1]
RECORDS = Path("benchmarks/records")
SPEED = Path("benchmarks/figures.json")
DOCUMENTS = (Path("README.md"), Path("docs/results.md"), Path("benchmarks/README.md"))
TABLE = re.compile(r"<!-- results:(?P<name>[\w.-]+) -->\n(?P<content>.*?)<!-- /results -->", re.DOTALL)
UNKNOWN = "not recorded"

Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What the tables say of the records of one name."""

    network: str
    data: str


ROWS = {
    "demo": Row("recipe `demo`, v1.1", "synthetic demo set"),
    "demo-before": Row("the recipe until commit e610eb8", "synthetic demo set"),
    "demo-at-64px": Row("batch 32, trained and evaluated at 64 px", "synthetic demo set"),
    "demo-21-epochs": Row("the present recipe with one more epoch", "synthetic demo set"),
    "imagenette": Row("recipe `imagenette`, v1.1, 112 px, from scratch", "Imagenette; settings chosen on this split"),
    "imagenette-long": Row(
        "recipe `imagenette-long`, v1.1, 144 px, from scratch", "Imagenette; settings chosen on this split"
    ),
    "finetune": Row(
        "recipe `finetune`, published v1.1, 224 px", "500 ImageNet validation photographs of Imagenette, held out"
    ),
    "finetune-new-classes": Row("the same, with a new last layer", "the same"),
    "finetune-seen": Row(
        "recipe `finetune`, published v1.1, 224 px", "Imagenette; the weights were trained on most of this split"
    ),
    "own-photographs-finetune": Row(
        "recipe `finetune`, published v1.1, 42 photographs a class", "3 classes of ImageNet validation photographs"
    ),
    "own-photographs-scratch": Row("recipe `imagenette`, the same 42 photographs a class", "the same"),
    "elu": Row("recipe `demo` with ELU, 64 px, 8 epochs", "Imagenette"),
    "published-v1.0": Row(
        "published weights v1.0, imported", "1,000 ImageNet photographs that the weights were trained on"
    ),
    "published-v1.1": Row("published weights v1.1, imported", "the same"),
    "article": Row("recipe `article`, v1.0, 227 px", "ImageNet, 50 photographs a class held out"),
}
VARIANTS = ("demo-before", "demo-at-64px", "demo-21-epochs")  # one table of their own
IN_README = ("demo", "imagenette", "imagenette-long", "finetune", "article")
ROUTES = {
    "train-sqznet": "sqznet", "train-keras": "Keras `fit`", "train-pytorch": "PyTorch, channels last",
    "input-sqznet": "sqznet", "input-decode-jpeg": "plain `decode_jpeg`, crop, resize",
    "input-pytorch": "PyTorch DataLoader, Pillow",
}  # fmt: skip
INPUTS = {"input_orig": "originals", "input_256": "`--short_side=256`", "input_dec": "`--short_side=256 --decoded`"}
ARTICLE_RATES = (
    "The article gives 145 minutes an epoch (142 images/s) for a K80, 146 minutes (141 images/s) for a Titan X and "
    "28 minutes (733 images/s) for a V100.\n"
)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("benchmarks.results", __doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--record", type=Path, help="run folder whose evaluation is stored")
    parser.add_argument("--name", choices=tuple(ROWS), help="with --record: the row of the tables")
    parser.add_argument("--bundle", type=Path, help="with --record: exported bundle of that run")
    parser.add_argument(
        "--core_seconds", type=cli.finite, help="with --record: processor time of the training, by `time`"
    )
    parser.add_argument("--note", help="with --record: what else ran on the machine, for example")
    args = parser.parse_args(argv)
    if args.record:
        if not args.name:
            raise InputError("--record needs --name")
        record = record_of(args.record, args.name, args.bundle, args.core_seconds, args.note)
        path = ROOT / RECORDS / f"{args.name}-{record['seed']}.json"
        files.write_json(path, record)
        console.result(f"record: {path.relative_to(ROOT)}")
        return 0
    tables = make_tables(load_records(ROOT), typed.read_json(ROOT / SPEED))
    stale = []
    for document in filter(lambda each: (ROOT / each).is_file(), DOCUMENTS):
        text = (ROOT / document).read_text()
        stale += [f"{document}: {name}" for name in differing(text, tables, document)]
        if not args.check:
            files.write_text(ROOT / document, filled(text, tables, document))
    for each in stale:
        console.result(f"{'differs' if args.check else 'written'}: {each}")
    return int(args.check and bool(stale))


def record_of(
    run: Path, name: str, bundle: Path | None = None, core_seconds: float | None = None, note: str | None = None
) -> Record:
    """The record of one run, from the files that train, evaluate and export wrote.

    Raises:
        InputError: the run has no evaluation or several, or a command in it names an absolute path.
    """
    config = typed.read_json(run / "config.json")
    evaluations = sorted(run.glob("evaluation-*.json"))
    if len(evaluations) != 1:
        raise InputError(f"{run} has {len(evaluations)} files evaluation-*.json; a record needs exactly one")
    evaluation = typed.read_json(evaluations[0])
    commands = [
        f"python -m sqznet.data --source={evaluation['source']} --out={evaluation['data']}",
        " ".join(config["command"]),
        f"python -m sqznet.evaluate --model={evaluation['model']} --data={evaluation['data']} "
        f"--split={evaluation['split']}",
    ]
    absolute = next((each for each in commands if re.search(r"[ =]/", each)), None)
    if absolute:
        raise InputError(f"the command {absolute!r} names an absolute path; repeat the run with relative ones")
    seconds = [float(line.split(",")[2]) for line in (run / "timings.csv").read_text().splitlines()[1:]]
    kept = ("split", "n", "top1", "top1_interval_95", "top5", "top5_interval_95")
    record: Record = {
        "name": name,
        "seed": config["recipe"]["seed"],
        "date": datetime.datetime.fromtimestamp(evaluations[0].stat().st_mtime, datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "version": config["sqznet"],
        "processor": latency.processor(),
        "note": note,
        "commands": commands,
        "train_minutes": round(sum(seconds) / 60, 2),
        "train_core_minutes": core_seconds and round(core_seconds / 60, 2),
        "evaluation": {each: evaluation[each] for each in kept},
    }
    if bundle:
        record["exports"] = [_exports_of(bundle)]
    return record


def _exports_of(bundle: Path) -> Record:
    entries = typed.read_json(bundle / "manifest.json")["files"]
    shown = ("largest_difference", "top1", "top5", "top1_agreement", "drop", "drop_interval_95")
    proof = next(iter(entries.values()))["proof"]
    return {
        "split": proof["split"],
        "n": proof["n"],
        "files": {
            name: {"bytes": entry["bytes"], **{each: entry["proof"][each] for each in shown}}
            for name, entry in sorted(entries.items())
        },
    }


def _commit() -> str:
    """The commit that is checked out; with "+changes" where files of the package differ from it."""
    commit, changed = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        for words in (["rev-parse", "--short=7", "HEAD"], ["status", "--porcelain", "--", "sqznet"])
    )
    return f"{commit}+changes" if changed else commit


def load_records(root: Path) -> dict[str, list[Record]]:
    """All records by name, in the order of ROWS, seeds rising."""
    found: dict[str, list[Record]] = {name: [] for name in ROWS}
    for path in sorted((root / RECORDS).glob("*.json")):
        record = json.loads(path.read_text())
        found[record["name"]].append(record)
    return {name: sorted(each, key=lambda record: record.get("seed") or 0) for name, each in found.items() if each}


def differing(text: str, tables: dict[str, str], document: Path) -> list[str]:
    """The tables of a document that are not what the records give."""
    return [found["name"] for found in TABLE.finditer(text) if found["content"] != _table(tables, found, document)]


def filled(text: str, tables: dict[str, str], document: Path) -> str:
    """A document with every table as the records give it."""

    def replace(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- results:{name} -->\n{_table(tables, found, document)}<!-- /results -->"

    return TABLE.sub(replace, text)


def _table(tables: dict[str, str], found: re.Match[str], document: Path) -> str:
    if found["name"] not in tables:
        raise InputError(f"{document} has a table results:{found['name']}; there are {', '.join(tables)}")
    return tables[found["name"]]


def make_tables(records: dict[str, list[Record]], speed: Record) -> dict[str, str]:
    """Every table by its name, as Markdown that ends with a line break."""
    records = dict(records)
    variants = {name: records.pop(name) for name in VARIANTS if name in records}
    tables = {
        "readme": _readme({name: records[name] for name in IN_README if name in records}),
        "accuracy": _accuracy(records),
        "variants": _variants(variants),
        "commands": _commands(records),
        **{f"seeds-{name}": _seeds(each) for name, each in records.items() if len(each) > 1},
        "training": _training(speed["train"]["train"]),
        "input": _input(speed),
        "exports": _seconds("command", speed["export"]["export"], 1),
        "startup": _seconds("command", speed["startup"]["startup"], 2),
    }
    for name, group in records.items():
        for export in group[0].get("exports", []):
            tables[f"files-{name}"] = _files(export)
    return tables


def _readme(records: dict[str, list[Record]]) -> str:
    rows = []
    for name, group in records.items():
        measured = "published" if "published" in group[0] else f"{group[0]['date']}, commit {group[0]['commit']}"
        shares = [_share(group, "top1"), _share(group, "top5")]
        rows.append([ROWS[name].network, _data(name, group), *shares, _minutes(group), measured])
    return _markdown(["network", "data, split, n", "top-1 (rank-1)", "top-5 (rank-5)", "training", "measured"], rows)


def _accuracy(records: dict[str, list[Record]]) -> str:
    rows = [
        [
            ROWS[name].network, _data(name, group), _share(group, "top1"), _share(group, "top5"), _minutes(group),
            _measured(group[0]),
        ]
        for name, group in records.items()
    ]  # fmt: skip
    return _markdown(["network", "data, split, n", "top-1", "top-5", "training", "measured"], rows)


def _variants(records: dict[str, list[Record]]) -> str:
    rows = []
    for name, (record,) in records.items():
        command = f"`{record['commands'][-1].removeprefix('python -m sqznet.train ')}`"
        rows.append([ROWS[name].network, command, _share([record], "top1"), _minutes([record])])
    return _markdown(["settings", "flags of `sqznet.train`", "top-1 on val (95 % interval)", "training"], rows)


def _data(name: str, group: list[Record]) -> str:
    evaluation = group[0]["evaluation"]
    return f"{ROWS[name].data}, {evaluation['split']}, {evaluation['n']:,}"


def _share(group: list[Record], key: str) -> str:
    """Mean and range over the seeds; of one run the 95 % interval; of others' results neither."""
    shares = [each["evaluation"][key] for each in group if key in each["evaluation"]]
    if not shares:
        return UNKNOWN
    if len(shares) > 1:
        low, high = 100 * min(shares), 100 * max(shares)
        return f"{100 * statistics.mean(shares):.2f} % ({low:.2f} to {high:.2f}, {len(shares)} seeds)"
    if "published" in group[0]:
        return f"{100 * shares[0]:.2f} % (published)"
    low, high = (100 * each for each in group[0]["evaluation"][f"{key}_interval_95"])
    return f"{100 * shares[0]:.2f} % ({low:.2f} to {high:.2f})"


def _minutes(group: list[Record]) -> str:
    """The median over the seeds; in minutes of one core where these are known, which other programs change least."""
    of_a_core = [each["train_core_minutes"] for each in group if each.get("train_core_minutes")]
    if of_a_core:
        return f"{statistics.median(of_a_core):.1f} core-minutes"
    minutes = [each["train_minutes"] for each in group]
    if minutes[0] is None:
        return "-"
    if minutes[0] == UNKNOWN:
        return UNKNOWN
    return f"{statistics.median(minutes):.1f} min, two cores"


def _measured(record: Record) -> str:
    if "published" in record:
        return f"not here: {record['published']}"
    return f"{record['date']}, commit {record['commit']}, {record['processor']}"


def _commands(records: dict[str, list[Record]]) -> str:
    parts = []
    for name, (first, *others) in records.items():
        if "published" in first:
            continue
        parts.append(f"**{name}**: {ROWS[name].network}\n\n```\n{_lines(first['commands'])}```\n")
        if first.get("note"):
            parts.append(f"{first['note']}\n")
        if others:
            seeds = ", ".join(str(each["seed"]) for each in others)
            parts.append(f"The runs with the seeds {seeds} used the same commands with another `--seed`.\n")
        for export in first.get("exports", []):
            if "command" in export:
                place = f"commit {export['commit']}, processor: {export['processor']}"
                parts.append(
                    f"On {export['date']} this command exported and measured the files ({place}):\n\n"
                    f"```\n{export['command']}\n```\n"
                )
    return "\n".join(parts)


def _lines(commands: list[str]) -> str:
    return "".join(f"{command}\n" for command in commands)


def _seeds(group: list[Record]) -> str:
    rows = [
        [
            each["seed"], _share([each], "top1"), _share([each], "top5"), _minutes([each]),
            f"{each['train_minutes']:.1f} min", _measured(each), each.get("note") or "-",
        ]
        for each in group
    ]  # fmt: skip
    return _markdown(["seed", "top-1 (95 % interval)", "top-5", "training", "by the clock", "measured", "note"], rows)


def _files(export: Record) -> str:
    def percent(entry: Record, key: str) -> str:
        return f"{100 * entry[key]:.2f} %" if key in entry else UNKNOWN

    rows = []
    for name, entry in export["files"].items():
        difference = f"{entry['largest_difference']:.1e}" if "largest_difference" in entry else UNKNOWN
        lost = UNKNOWN
        if "drop" in entry:
            low, high = (100 * each for each in entry["drop_interval_95"])
            lost = f"{100 * entry['drop']:.2f} ({low:.2f} to {high:.2f})"
        size = entry["bytes"]
        rows.append(
            [
                f"`{name}`", f"{size:,}", f"{size / 1e6:.3f}", f"{size / 2**20:.3f}", difference,
                percent(entry, "top1"), percent(entry, "top1_agreement"), lost,
            ]
        )  # fmt: skip
    columns = ["file", "bytes", "MB", "MiB", "largest difference", "top-1", "agreement", "points lost (95 % interval)"]
    return _markdown(columns, rows)


def _training(networks: list[Record]) -> str:
    columns = [
        "step", "images/s", "of the first row", "spread", "GFLOP/s", "of the matrix product", "peak MiB",
        "min an ImageNet epoch",
    ]  # fmt: skip
    parts = []
    for network in networks:
        first = network["results"][0]["images_per_second"]
        gflop, limit = network["gflop_an_image"], network["limit_gflops"]
        rows = []
        for each in network["results"]:
            rate = each["images_per_second"]
            settings = each["settings"]
            label = f"{ROUTES[each['workload']]}, {settings.get('precision', 'float32')}"
            rows.append(
                [
                    label + (", from shards" if "data" in settings else ""),
                    f"{rate:.1f}", f"{rate / first:.2f}", f"{100 * each['spread']:.0f}%", f"{rate * gflop:.0f}",
                    f"{100 * rate * gflop / limit:.0f}%", f"{each['peak_mib']:.0f}",
                    f"{(1_281_167 - 50_000) / rate / 60:.0f}",
                ]
            )  # fmt: skip
        parts.append(
            f"### {network['arch']}, {network['image_size']} px\n\n"
            f"A step takes {gflop:.2f} GFLOP for each image. A float32 matrix product "
            f"reaches {limit:.0f} GFLOP/s.\n\n{_markdown(columns, rows)}"
        )
    return "\n".join([*parts, ARTICLE_RATES])


def _input(speed: Record) -> str:
    rows = []
    for key, shards in INPUTS.items():
        results = speed[key]["input"]["results"]
        ours = results[0]["images_per_core_second"]
        rows += [
            [
                shards, ROUTES[each["workload"]], f"{each['images_per_second']:,.0f}",
                f"{each['images_per_core_second']:,.0f}", f"{each['images_per_core_second'] / ours:.2f}",
                f"{100 * each['spread']:.0f}%",
            ]
            for each in results
        ]  # fmt: skip
    return _markdown(["shards", "pipeline", "images/s", "images per core-second", "of ours", "spread"], rows)


def _seconds(what: str, seconds: dict[str, float], digits: int) -> str:
    return _markdown([what, "seconds"], [[name, f"{each:.{digits}f}"] for name, each in seconds.items()])


def _markdown(columns: list[str], rows: list[list[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    cli.run(main)
