"""Refuses an older Python at once; all else is in setup.cfg.

pip reads `python_requires` of a local folder only beside the packages that it needs, of which it would download
572 MB first. It runs this file before that.
"""

import sys

from setuptools import setup

if sys.version_info < (3, 10):
    sys.exit(
        "\n\nsqznet needs Python 3.10 or newer, and this is Python {}.{} ({}).\n"
        "Install it in an environment of a newer one: python3.11 -m venv .venv, then .venv/bin/pip install .\n".format(
            *sys.version_info[:2], sys.executable
        )
    )

setup()
