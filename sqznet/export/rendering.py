"""Renders the Jinja2 templates of templates/: the report, the model card and the constants for apps.

Values in HTML templates are escaped. A value that a template needs and does not get is an error.
"""

from __future__ import annotations

import functools
from typing import Any

import jinja2

from sqznet.core import sizes
from sqznet.export import formatting


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sqznet.export"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "counted": formatting.counted,
        "fixed": lambda value, digits: f"{value:.{digits}f}",
        "markdown": formatting.markdown,
        "points": formatting.points_of,
        "size": sizes.describe,
        "thousands": "{:,}".format,
        "yaml": formatting.yaml,
    }
    return environment


def render(template: str, **values: Any) -> str:
    """Returns the text of a template of templates/ with `values`. The same values give the same bytes."""
    return _environment().get_template(template).render(values)
