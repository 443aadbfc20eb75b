"""Runs the notebook of docs/ from its first cell to its last: python -m tests.notebooks FOLDER

The notebook writes its files below FOLDER, and the executed notebook itself is FOLDER/executed.ipynb.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest import mock

import nbclient
import nbformat

from tests import commands

NOTEBOOK = commands.ROOT / "docs" / "notebooks" / "photographs_to_phone.ipynb"
CELL_SECONDS = 1800
KERNEL = "tested"


def execute(folder: Path, python: str = sys.executable) -> nbformat.NotebookNode:
    """Runs the notebook in a folder, with a kernel of the given Python, in which ipykernel must be installed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernel = folder / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    words = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": words, "display_name": KERNEL, "language": "python"}))
    place = {"metadata": {"path": str(folder)}}
    with mock.patch.dict(os.environ, JUPYTER_PATH=str(folder / "jupyter")):
        nbclient.NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name=KERNEL, resources=place).execute()
    return notebook


def errors_of(notebook: nbformat.NotebookNode) -> list[str]:
    """What the cells have written to stderr."""
    return [each.text for each in _outputs(notebook) if each.output_type == "stream" and each.name == "stderr"]


def text_of(notebook: nbformat.NotebookNode) -> str:
    """What the cells have printed."""
    return "".join(each.text for each in _outputs(notebook) if each.output_type == "stream")


def _outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


if __name__ == "__main__":
    (target,) = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    nbformat.write(execute(target.resolve()), target / "executed.ipynb")
