"""report.html of a bundle: which file to take, how good each is and at which classes, its size, speed and input.

One file without scripts or anything from elsewhere, so that it can be sent by mail; the same bundle gives the same
bytes.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqznet.core import files, sizes
from sqznet.export import advice, by_class, charts, formatting, page, samples, transfer

if TYPE_CHECKING:
    import numpy as np

FILE = "report.html"
PAIRS = 8  # changed answers shown of each file


def write(
    folder: Path,
    manifest: dict[str, Any],
    labels: tuple[str, ...],
    budget: int,
    reference: dict[str, Any],
    confusion: np.ndarray,
    curve: Path | None = None,
) -> None:
    """Writes `folder`/report.html; golden/ has to be there.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
        budget: most bytes that a file may have.
        reference: the Keras model's accuracy on the records that all files were compared on.
        confusion: of the Keras model on these records: rows true, columns predicted, (classes, classes).
        curve: a PNG of the training, where there is one.
    """
    entries = formatting.in_order(manifest)
    sections = [
        _head(formatting.name_of(folder), manifest, entries, labels, reference),
        _advice(entries),
        by_class.section(confusion, labels, _records(reference)),
        samples.section(folder, entries, labels),
        _weights(entries, budget),
        _accuracy(entries, reference, len(labels)),
        _changes(entries, labels),
        _speed(entries),
        _training(curve),
        _contract(manifest, entries),
        _provenance(manifest),
    ]
    title = f"{formatting.name_of(folder)}: export report"
    files.write_text(folder / FILE, page.page(title, "\n".join(part for part in sections if part)))


def _head(
    name: str, manifest: dict[str, Any], entries: formatting.Entries, labels: tuple[str, ...], reference: dict[str, Any]
) -> str:
    size = manifest["preprocessing"]["image_size"]
    count = f"{len(entries)} model {'file' if len(entries) == 1 else 'files'}"
    lead = f"SqueezeNet for {len(labels):,} classes, {size} x {size} pixels, as {count}"
    smallest, entry = min(entries, key=lambda item: item[1]["bytes"])
    right = formatting.counted(reference["top1"], reference["n"])
    tiles = [
        _tile(
            f"{100 * reference['top1']:.2f} %",
            "top-1 of the Keras model in float32",
            f"{right} records right, 95 % interval {_interval(reference['top1_interval_95'])}",
        ),
        _tile(f"{entry['bytes'] / 1000**2:.3f} MB", "smallest file", smallest),
    ]
    costliest, entry = max(entries, key=lambda item: item[1]["proof"]["drop"])
    loss, interval = entry["proof"]["drop"], _interval(entry["proof"]["drop_interval_95"])
    tiles.append(
        _tile(
            f"{formatting.points_of(max(loss, 0))} points",
            "most top-1 that a file loses",
            f"95 % interval {interval}, {costliest}" if loss > 0 else "no file loses any on these records",
        )
    )
    timed = [(each["latency"]["1"]["median_ms"], file) for file, each in entries if "1" in each.get("latency", {})]
    if timed:
        median, file = min(timed)
        tiles.append(_tile(f"{median:.2f} ms", "quickest file, with one thread, where it was exported", file))
    notes = "".join(page.paragraph(warning, "note") for warning in formatting.warnings(manifest, reference))
    return (
        f"<header>\n<h1>{escape(name)}</h1>\n{page.paragraph(lead, 'soft')}\n"
        f'<div class="tiles">{"".join(tiles)}</div>\n{notes}\n</header>'
    )


def _advice(entries: formatting.Entries) -> str:
    return page.section(
        "Take this file",
        page.paragraph(advice.headline(entries), "take"),
        page.table(advice.COLUMNS, advice.rows(entries), "words"),
        page.paragraph(
            "Every file here has passed the gates. For each runtime a file is named that is small, and quick where "
            "that was measured; the sections on size, accuracy and speed have them all."
        ),
    )


def _training(curve: Path | None) -> str:
    if curve is None:
        return ""
    content = base64.b64encode(curve.read_bytes()).decode()
    picture = f'<img class="curve" src="data:image/png;base64,{content}" alt="loss and accuracy over the epochs">'
    return page.section("Training", page.paragraph("Loss and accuracy of the run that made the model."), picture)


def _tile(figure: str, what: str, more: str) -> str:
    words = f'<span>{escape(what)}</span><span class="soft">{escape(more)}</span>'
    return f'<div class="tile"><b>{escape(figure)}</b>{words}</div>'


def _records(reference: dict[str, Any]) -> str:
    return formatting.records(reference["n"], reference)


def _interval(interval: tuple[float, float]) -> str:
    return f"{formatting.points_of(interval[0])} to {formatting.points_of(interval[1])}"


def _weights(entries: formatting.Entries, budget: int) -> str:
    rows = [charts.Bars(name, (entry["bytes"],), sizes.describe(entry["bytes"])) for name, entry in entries]
    over = [name for name, entry in entries if entry["bytes"] > budget]
    verdict = f"over the budget: {', '.join(over)}" if over else "every file is within it"
    return page.section(
        "Size",
        page.paragraph(
            f"The budget is {sizes.describe(budget)} a file; {verdict}. Of a SavedModel the whole folder counts."
        ),
        charts.bars(rows, (budget, f"budget {budget:,} bytes")),
        page.paragraph(
            "What a store or a web server sends is packed. In memory a file takes what it takes on disk at least, "
            "packed or not, and the maps between layers besides."
        ),
        page.table(
            ["file", "bytes", *transfer.PACKERS],
            [
                [name, f"{entry['bytes']:,}", *(f"{entry['transfer'][packer]:,}" for packer in transfer.PACKERS)]
                for name, entry in entries
            ],
        ),
    )


def _accuracy(entries: formatting.Entries, reference: dict[str, Any], classes: int) -> str:
    def dot(name: str, score: dict[str, Any]) -> charts.Dot:
        interval = score["top1_interval_95"]
        return charts.Dot(name, score["top1"], interval, formatting.share(score["top1"], interval, score["n"]))

    rows = [dot("Keras model", reference)] + [dot(name, entry["proof"]) for name, entry in entries]
    columns = ["file", "same answer", "top-1 lost, points", "largest difference"]
    if classes > 5:  # of five it is 100 % whatever a model says
        columns.append("top-5")
    table = page.table(columns, [_comparison(name, entry)[: len(columns)] for name, entry in entries])
    return page.section(
        "Accuracy",
        page.paragraph(
            f"Top-1 (rank-1) on {_records(reference)}, with 95 % intervals; each file ran in its own runtime. The "
            "dashed line is the Keras model."
        ),
        charts.dots(rows, reference["top1"]),
        page.paragraph(
            "Against the Keras model, record by record: the share of records with the same likeliest class, the top-1 "
            "that is lost (a loss below 0 is a gain; its 95 % interval is that of the paired difference), and the "
            "largest difference of any probability."
        ),
        table,
    )


def _comparison(name: str, entry: dict[str, Any]) -> list[str]:
    proof = entry["proof"]
    return [
        name,
        formatting.same_answers(proof),
        formatting.points(proof["drop"], proof["drop_interval_95"]),
        f"{proof['largest_difference']:.1e}",
        formatting.share(proof["top5"], proof["top5_interval_95"], proof["n"]),
    ]


def _changes(entries: formatting.Entries, labels: tuple[str, ...]) -> str:
    proofs = {name: entry["proof"] for name, entry in entries}
    same = [name for name, proof in proofs.items() if not proof["changed_answers"]["records"]]
    body = [page.paragraph("Where a file's likeliest class is not the Keras model's, the most frequent changes first.")]
    if same:
        body.append(page.paragraph(f"Of {proofs[same[0]]['n']:,} answers, none changed in {', '.join(same)}."))
    cards = "".join(_change(name, proof, labels) for name, proof in proofs.items() if name not in same)
    return page.section("Changed answers", *body, f'<div class="cards">{cards}</div>' if cards else "")


def _change(name: str, proof: dict[str, Any], labels: tuple[str, ...]) -> str:
    changed, n = proof["changed_answers"], proof["n"]
    total, pairs = changed["records"], changed["most_frequent"]
    table = page.table(
        ["Keras model", "this file", "records"],
        [[labels[before], labels[after], f"{records:,}"] for before, after, records in pairs],
        "words",
    )
    rest, others = total - sum(records for _, _, records in pairs), changed["pairs"] - len(pairs)
    more = f'<div class="soft">and {rest:,} in {others:,} other {"pair" if others == 1 else "pairs"}</div>'
    return (
        f'<div class="card"><h3>{escape(name)}</h3>'
        f'<div class="soft">{total:,} of {n:,} answers ({100 * total / n:.2f} %)</div>{table}'
        + (more if rest else "")
        + "</div>"
    )


def _speed(entries: formatting.Entries) -> str:
    timed = [(name, entry["latency"]) for name, entry in entries if "latency" in entry]
    if not timed:
        return ""
    threads = sorted({count for _, latency in timed for count in latency if count.isdecimal()}, key=int)
    rows, lines = [], []
    for name, latency in timed:
        times = [latency[count] for count in threads]
        medians = [f"{time['median_ms']:.2f}" for time in times]
        rows.append(charts.Bars(name, tuple(time["median_ms"] for time in times), f"{' / '.join(medians)} ms"))
        both = [f"{time['median_ms']:.2f} / {time['p90_ms']:.2f}" for time in times]
        lines.append([name, *both, f"{latency['peak_mib']:.1f}"])
    named = [f"{count} {'thread' if count == '1' else 'threads'}" for count in threads]
    columns = ["file", *(f"{name}, median / p90 ms" for name in named), "peak memory MiB"]
    return page.section(
        "Speed and memory",
        page.paragraph(
            "Median time of one photograph (batch 1), pixels to probabilities, on the processor of the computer that "
            "exported; a phone's differs. Peak memory is what runtime, file and runs added together to a process of "
            "their own: TensorFlow's own hundreds of MiB are in the SavedModel's."
        ),
        charts.legend(named),
        charts.bars(rows),
        page.table(columns, lines),
    )


def _contract(manifest: dict[str, Any], entries: formatting.Entries) -> str:
    steps = [f"<li>{escape(step)}</li>" for step in formatting.contract(manifest)]
    return page.section(
        "How to feed the files",
        f"<ol>{''.join(steps)}</ol>",
        page.table(formatting.PORTS, [formatting.ports(name, entry) for name, entry in entries], "words"),
        page.paragraph(
            "Here n is any number of photographs. golden/ holds inputs and what each file answered to them, to test an "
            "app with, and the photograph that the first input was made of, to test its decoding and scaling."
        ),
    )


def _provenance(manifest: dict[str, Any]) -> str:
    facts = {
        "weights": formatting.origin(manifest),
        "licence": formatting.licence(manifest["weights"]),
        "int8 steps found on": formatting.calibration(manifest),
        "sha256 of the weights": manifest["model_sha256"],
        "made with": ", ".join(
            f"{name} {version}" for name, version in [("sqznet", manifest["sqznet"]), *manifest["converters"].items()]
        ),
        "check": "python -m sqznet.export --check=FOLDER compares every file with manifest.json and golden/",
    }
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items() if fact)
    return page.section("Where it comes from", f"<dl>{lines}</dl>")
