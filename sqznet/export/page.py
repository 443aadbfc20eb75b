"""The frame of report.html: one file without scripts, and nothing in it that is fetched from elsewhere.

What is given as `body` or `cells` is HTML already; everything called `title` or `text` is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f4f6f8; --text: #1b2733; --soft: #5a6875; --line: #d5dce3;
  --first: #1f6fb2; --second: #94bfe3; --limit: #b3261e; --good: #1b7f4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171c; --card: #1c242c; --text: #e6ebf0; --soft: #9dabb8;
  --line: #36424e; --first: #5aa9e6; --second: #2d5c85; --limit: #ff8a80; --good: #6fd3a0; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p, ol { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft { color: var(--soft); }
.note { padding: .6rem .9rem; border-left: 4px solid var(--limit); background: var(--card); }
.tiles, .cards { display: grid; gap: .8rem; margin: 1rem 0; }
.cards { align-items: start; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.cards { grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); }
.samples { grid-template-columns: repeat(auto-fill, minmax(min(13.5rem, 100%), 1fr)); }
.tile, .card { background: var(--card); border-radius: 8px; padding: .8rem 1rem; min-width: 0; margin: 0; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; }
.tile span { display: block; font-size: .85rem; overflow-wrap: anywhere; }
.chart { display: grid; grid-template-columns: max-content 1fr max-content; column-gap: .9rem; margin: .8rem 0; }
.row { display: contents; }
.row > * { align-self: center; }
.name { overflow-wrap: anywhere; }
.figure { font-size: .9rem; font-variant-numeric: tabular-nums; }
.plot { display: block; width: 100%; overflow: visible; }
.plot text { fill: var(--soft); font-size: 12px; }
.bar0 { fill: var(--first); background: var(--first); } .bar1 { fill: var(--second); background: var(--second); }
.bar2, .bar3, .bar4 { fill: var(--soft); background: var(--soft); }
.limit { stroke: var(--limit); stroke-width: 2; } .grid { stroke: var(--line); }
.reference { stroke: var(--soft); stroke-dasharray: 4 3; }
.interval { stroke: var(--first); stroke-width: 3; stroke-linecap: round; opacity: .55; } .dot { fill: var(--first); }
.legend span { margin-right: 1.2rem; } .key { display: inline-block; width: .9rem; height: .7rem; margin-right: .4rem;
  border-radius: 2px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
.wide .words { min-width: 50rem; } .words td + td { white-space: normal; }
.card table.words { min-width: 0; margin-top: .4rem; }
.card td, .card th { padding-inline: 0 .5rem; white-space: normal;
  overflow-wrap: anywhere; }
.card td:last-child, .card th:last-child { text-align: right; padding-right: 0; white-space: nowrap; }
img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 5px; margin-bottom: .6rem; }
.curve { aspect-ratio: auto; max-width: 60rem; }
.take { font-size: 1.1rem; padding: .7rem 1rem; border-left: 4px solid var(--good); background: var(--card); }
.matrix { width: auto; margin-bottom: 1rem; }
.matrix th, .matrix td { padding: .3rem .5rem; text-align: right; border: 0; min-width: 2.4rem; }
.matrix thead th { vertical-align: bottom; } .matrix thead th + th { text-align: left; }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem; }
.matrix .hit { background: color-mix(in srgb, var(--first) var(--share), var(--ground)); }
.matrix .miss { background: color-mix(in srgb, var(--bad) var(--share), var(--ground)); }
.matrix .strong { color: var(--ground); } .matrix .sum { color: var(--soft); }
.right, .wrong { color: var(--good); font-weight: 600; } .wrong { color: var(--bad); }
.guess { display: grid; grid-template-columns: 1fr auto; gap: 0 .5rem; font-size: .9rem; margin-top: .35rem;
  overflow-wrap: anywhere; }
.guess svg { grid-column: 1 / 3; width: 100%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; } dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 44rem) {
  .chart { display: block; }
  .row { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: .6rem; margin-bottom: .5rem; }
  .row .plot { order: 1; }
  .row.axis { margin: 0; }
  .samples { grid-template-columns: 1fr 1fr; }
  .samples .card { padding: .6rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
}
@media print { .card, .tile { break-inside: avoid; border: 1px solid var(--line); } }
"""


def page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, *body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(body) + "\n</section>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Words in the first column, figures to the right in the others; `kind="words"` has words in all. Escaped here."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{lines}</tbody></table></div>'
    )
