"""Makes Jinja2 environments for reports: the templates of a package, and those of core/templates that reports share.

Values in HTML templates are escaped. A value that a template needs and does not get is an error.
"""

from __future__ import annotations

import jinja2

from sqznet.core import sizes


def environment(package: str) -> jinja2.Environment:
    """Returns the environment of the templates in the folder `templates` of a package, such as `sqznet.export`."""
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("sqznet.core")]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {
        "fixed": lambda value, digits: f"{value:.{digits}f}",
        "size": sizes.describe,
        "thousands": "{:,}".format,
    }
    return found
