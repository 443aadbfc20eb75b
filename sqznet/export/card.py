"""MODEL_CARD.md of a bundle: what the model is for, what it was made from, how good it is and on what.

The headings follow Mitchell et al. 2019, "Model cards for model reporting".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqznet.core import files
from sqznet.export import advice, formatting

FILE = "MODEL_CARD.md"
LISTED = 20  # most classes that are listed by name


def write(folder: Path, manifest: dict[str, Any], labels: tuple[str, ...], reference: dict[str, Any]) -> None:
    """Writes `folder`/MODEL_CARD.md.

    Args:
        manifest: the content of manifest.json.
        labels: the classes in words, in the order of the outputs.
        reference: the Keras model's accuracy on the records that all files were compared on.
    """
    parts = [
        f"# {_plain(formatting.name_of(folder))}",
        _what(manifest, labels),
        _use(labels),
        _origin(manifest),
        _figures(manifest, reference),
        _input(manifest),
        _terms(manifest),
        "## Checking the files\n\n`python -m sqznet.export --check=FOLDER` compares every file of this folder with "
        "`manifest.json` and runs the golden inputs through it. `report.html` has the figures as pictures.",
    ]
    files.write_text(folder / FILE, "\n\n".join(parts) + "\n")


def _what(manifest: dict[str, Any], labels: tuple[str, ...]) -> str:
    size = manifest["preprocessing"]["image_size"]
    named = f": {', '.join(map(_plain, labels))}" if len(labels) <= LISTED else ""
    return (
        f"A SqueezeNet (Iandola et al. 2016) that tells {len(labels):,} classes of photographs apart{named}. It sees "
        f"{size} x {size} pixels and gives a probability for each class, in the order of `labels.txt`. Made with "
        f"sqznet {_plain(manifest['sqznet'])}."
    )


def _use(labels: tuple[str, ...]) -> str:
    return f"""## Intended use and limits

- For photographs that show one of the {len(labels):,} classes, of the kind that it was trained on.
- It answers with one of its classes whatever the photograph shows, and can be sure of it: the probabilities add up to 1
  over the classes it knows. An app that meets other things needs a threshold of its own, found on its own photographs.
- Nothing was measured here for photographs that are blurred, dark, drawn or from other sources, nor for differences
  between groups of people or places. Not for decisions about people, nor where a wrong answer does harm.
- A probability is the network's own, and not calibrated to how often it is right."""


def _origin(manifest: dict[str, Any]) -> str:
    lines = [f"- Weights: {_plain(formatting.origin(manifest))}."]
    weights = manifest["weights"]
    if weights is not None:
        known = [("format", "format"), ("sha256", "sha256"), ("stated_accuracy", "stated top-1, top-5")]
        facts = [f"{words} {_plain(weights[key])}" for key, words in known if weights.get(key)]
        lines.append(f"- Published file: {'; '.join(facts)}." if facts else "- Of the published file nothing is known.")
    if manifest["pretrained_on"]:
        lines.append(f"- Trained before on: {_plain(manifest['pretrained_on'])}.")
    calibration = formatting.calibration(manifest)
    if calibration:
        lines.append(f"- The steps of int8 activations were found on {_plain(calibration)}.")
    lines.append(f"- sha256 of the weights: {_plain(manifest['model_sha256'])}.")
    return "## Where it comes from\n\n" + "\n".join(lines)


def _figures(manifest: dict[str, Any], reference: dict[str, Any]) -> str:
    where = _plain(formatting.records(reference["n"], reference))
    measures = [("top-1 (rank-1)", "top1"), ("top-5 (rank-5)", "top5")]
    if len(manifest["classes"]) <= 5:
        measures = measures[:1]  # top-5 is 100 % whatever a model says
    model = _table(
        ["Keras model, float32", "accuracy (records; 95 % interval)"],
        [
            [name, formatting.share(reference[key], reference[f"{key}_interval_95"], reference["n"])]
            for name, key in measures
        ],
    )
    by_file = _table(
        [
            "file",
            "kind",
            "bytes",
            "top-1 (records; 95 % interval)",
            "top-1 lost, points (95 % interval)",
            "same answer",
        ],
        [_line(name, entry) for name, entry in formatting.in_order(manifest)],
    )
    return (
        f"## Figures\n\nMeasured on {where}.\n\n{model}\n\n"
        + "".join(f"**Read with care:** {_plain(each)}\n\n" for each in formatting.warnings(manifest, reference))
        + f"**{_plain(advice.headline(formatting.in_order(manifest)))}**\n\n"
        + "Each file in its own runtime, on the same records, against the Keras model:\n\n"
        + by_file
    )


def _line(name: str, entry: dict[str, Any]) -> list[str]:
    proof = entry["proof"]
    return [
        f"`{name}`",
        formatting.kind(entry),
        f"{entry['bytes']:,}",
        formatting.share(proof["top1"], proof["top1_interval_95"], proof["n"]),
        formatting.points(proof["drop"], proof["drop_interval_95"]),
        formatting.same_answers(proof),
    ]


def _input(manifest: dict[str, Any]) -> str:
    steps = [f"{number}. {_plain(step)}" for number, step in enumerate(formatting.contract(manifest), start=1)]
    ports = _table(
        formatting.PORTS,
        [[f"`{name}`", *formatting.ports(name, entry)[1:]] for name, entry in formatting.in_order(manifest)],
    )
    return "## Input and output\n\n" + "\n".join(steps) + f"\n\n{ports}\n\nHere n is any number of photographs."


def _terms(manifest: dict[str, Any]) -> str:
    terms = _plain(formatting.licence(manifest["weights"]))
    return f"## Licence of the weights\n\n{terms[:1].upper()}{terms[1:]}."


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Text from elsewhere on one line, with whatever Markdown or HTML would make something of escaped."""
    return re.sub(r"([\\`*_\[\]<>|#~&$]|:(?=[\w+-]+:))", r"\\\1", " ".join(str(text).split()))
