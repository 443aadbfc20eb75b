"""The section of report.html on classes: the confusion matrix with its counts, and how often each class is right."""

from __future__ import annotations

from html import escape

import numpy as np

from sqznet.core import metrics
from sqznet.export import formatting, page

DRAWN = 20  # most classes of a matrix that is drawn; of more, the pairs that are confused most are listed
LISTED = 20  # most lines of a table
LEAST_RECORDS = 10  # of a class whose share says something, where not all classes are listed


def section(confusion: np.ndarray, labels: tuple[str, ...], where: str) -> str:
    """Args:
    confusion: records by class, rows true and columns predicted, (classes, classes).
    where: the records that were counted, in words.
    """
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    hits, n = int(np.trace(confusion)), int(confusion.sum())
    body = [page.paragraph(f"The Keras model on {where}: {hits:,} of {n:,} right. Rows are the true classes.")]
    if len(shown) <= DRAWN:
        body.append(_matrix(confusion[np.ix_(shown, shown)], [labels[each] for each in shown]))
    else:
        body.append(_pairs(confusion, labels))
    body.append(_table(confusion, labels))
    return page.section("Classes", *body)


def _matrix(counts: np.ndarray, labels: list[str]) -> str:
    """A cell's colour is its share of the true class, its number the records."""
    head = "".join(f'<th scope="col"><span>{escape(label)}</span></th>' for label in labels)
    lines: list[str] = []
    for label, row in zip(labels, counts, strict=True):
        cells = "".join(_cell(int(count), int(row.sum()), place == len(lines)) for place, count in enumerate(row))
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}<td class="sum">{row.sum():,}</td></tr>\n')
    return (
        '<div class="wide"><table class="matrix"><thead><tr><th>true \\ predicted</th>'
        f'{head}<th scope="col"><span>records</span></th></tr></thead><tbody>\n{"".join(lines)}</tbody></table></div>'
    )


def _cell(count: int, of: int, is_right: bool) -> str:
    if not count:
        return "<td></td>"
    share = count / of
    kind = ("hit" if is_right else "miss") + (" strong" if share > 0.5 else "")
    return f'<td class="{kind}" style="--share:{100 * share:.0f}%" title="{100 * share:.1f} %">{count:,}</td>'


def _pairs(confusion: np.ndarray, labels: tuple[str, ...]) -> str:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    found = sorted(np.argwhere(wrong), key=lambda pair: (-wrong[tuple(pair)], tuple(pair)))[:LISTED]
    if not found:
        return page.paragraph("No two classes are confused.")
    rows = [
        [labels[true], labels[answer], f"{wrong[true, answer]:,} of {confusion[true].sum():,}"]
        for true, answer in found
    ]
    return page.paragraph("The pairs that are confused most:") + page.table(
        ["true", "taken for", "records"], rows, "words"
    )


def _table(confusion: np.ndarray, labels: tuple[str, ...]) -> str:
    totals, hits = confusion.sum(axis=1), np.diag(confusion)
    there = [int(each) for each in np.flatnonzero(totals)]
    shown, title = there, ""
    if len(there) > LISTED:
        enough = [each for each in there if totals[each] >= LEAST_RECORDS]
        if not enough:
            return page.paragraph(
                f"No class has {LEAST_RECORDS} records, so the share of a single class says next to nothing."
            )
        shown = sorted(enough, key=lambda each: (hits[each] / totals[each], each))[:LISTED]
        title = f"The {len(shown)} worst of {len(enough):,} classes with {LEAST_RECORDS} records or more:"
    rows = []
    for each in shown:
        n, right = int(totals[each]), int(hits[each])
        others = confusion[each].copy()
        others[each] = 0
        taken = f"{labels[others.argmax()]} ({others.max():,})" if others.any() else "-"
        rows.append([labels[each], formatting.share(right / n, metrics.wilson_interval(right, n), n), taken])
    columns = ["class", "top-1 (records; 95 % interval)", "most often taken for"]
    return (page.paragraph(title) if title else "") + page.table(columns, rows, "words")
