"""Which Pythons and packages the install takes. An older Python is refused before anything is downloaded."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"


def test_setup_refuses_an_older_python():
    code = f"import sys; sys.version_info = (3, 9, 18); exec(open({str(ROOT / 'setup.py')!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sqznet needs Python 3.10 or newer, and this is Python 3.9" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_install_refuses_an_older_python(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 18); $2"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"sqznet needs Python 3.10 or newer, and {old} is 3.9" in done.stderr
    assert not (tmp_path / "venv").exists()


def setup() -> configparser.ConfigParser:
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


def test_the_supported_pythons_are_the_same_everywhere():
    named = re.findall(r"Python :: (3\.\d+)", setup()["metadata"]["classifiers"])
    assert named[0] == setup()["options"]["python_requires"].removeprefix(">=")
    assert re.search(r"^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split() == named[::-1]
    assert f"(Python {named[0]} to {named[-1]}, " in CONSTRAINTS.read_text()
    rows = re.findall(r"^\| (3\.\d+)\.\d+ \|", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    assert rows == named


def pinned() -> dict[str, str]:
    """The version of each package in constraints.txt, for this Python."""
    lines = [Requirement(line) for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("#")]
    return {
        canonicalize_name(each.name): str(each.specifier)
        for each in lines
        if each.marker is None or each.marker.evaluate()
    }


def test_the_installed_packages_are_those_that_are_pinned():
    installed = {canonicalize_name(each.metadata["Name"]): f"=={each.version}" for each in metadata.distributions()}
    for name in ("pip", "setuptools", "sqznet", "wheel"):
        installed.pop(name, None)
    pins = pinned()
    if os.environ.get("CI") != "true":  # where a developer may have installed other packages
        installed = {name: version for name, version in installed.items() if name in pins}
    assert installed.items() <= pins.items()


def test_each_declared_package_is_pinned_to_a_version_that_is_allowed():
    options = setup()["options"]["install_requires"].split("\n")
    extras = "\n".join(setup()["options.extras_require"].values()).split("\n")
    for line in filter(None, options + extras):
        wanted = Requirement(line)
        if wanted.name != "sqznet":
            assert wanted.specifier.contains(pinned()[canonicalize_name(wanted.name)].removeprefix("==")), line


def test_an_extra_that_a_text_names_exists():
    """Messages and documents name an extra as `pip install 'sqznet[beam]'`."""
    texts = [path for folder in ("sqznet", "docs", "deploy") for path in (ROOT / folder).rglob("*")]
    texts = [ROOT / "README.md", *(path for path in texts if path.suffix in (".md", ".py", ".sh"))]
    named = {name for path in texts for name in re.findall(r"pip install [^\n]*\[([a-z,]+)\]", path.read_text())}
    assert named == set(setup()["options.extras_require"]) - {"dev"}
