"""Shows results in Jupyter notebooks: HTML tables, pictures, and a line of progress that is replaced in place."""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def is_running() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Line:
    """One line of output below a cell. `show` replaces its text."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display(_preformatted(""), display_id=True)

    def show(self, text: str) -> None:
        self._handle.update(_preformatted(text))


def _preformatted(text: str) -> Any:
    from IPython.display import HTML

    return HTML(f'<pre style="margin:0">{html.escape(text)}</pre>' if text else "")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> str:
    """Returns an HTML table. All texts are escaped."""
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(content: bytes, kind: str) -> str:
    """Returns an encoded picture as an HTML image that needs no other file. `kind` is its type, such as image/png."""
    return f'<img alt="" src="data:{kind};base64,{base64.b64encode(content).decode()}">'


def paragraph(text: str | None) -> str:
    """Returns a text as an HTML paragraph, or an empty text for None."""
    return f"<p>{html.escape(text)}</p>" if text else ""
