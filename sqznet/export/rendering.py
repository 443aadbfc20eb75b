"""Renders the templates of export/templates: the report, the model card and the constants for apps."""

from __future__ import annotations

import functools
from typing import Any

import jinja2

from sqznet.core import rendering
from sqznet.export import formatting


@functools.cache
def _environment() -> jinja2.Environment:
    environment = rendering.environment("sqznet.export")
    environment.filters |= {
        "counted": formatting.counted,
        "markdown": formatting.markdown,
        "points": formatting.points_of,
        "yaml": formatting.yaml,
    }
    return environment


def render(template: str, **values: Any) -> str:
    """Returns the text of a template of templates/ with `values`. The same values give the same bytes."""
    return _environment().get_template(template).render(values)
