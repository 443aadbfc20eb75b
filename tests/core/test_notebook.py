"""What a notebook shows, in a real kernel."""

from __future__ import annotations

import nbclient
import nbformat
import pytest

PROGRESS = """
import sqznet, time
from sqznet.core import console
with console.progress("images/s") as bar:
    for _ in bar.track(range(3), description="predicting"):
        time.sleep(0.3)
"""


@pytest.fixture(scope="module")
def cells() -> list:
    """The outputs of three cells: progress, a note, and quiet progress."""
    code = [PROGRESS, "console.say('a note')", f"sqznet.set_verbose(False){PROGRESS}"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in code])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_progress_is_one_line_that_is_replaced(cells):
    (output,) = cells[0]
    assert "predicting: 3 of 3;" in output["data"]["text/html"]


def test_notes_are_not_marked_as_errors(cells):
    assert [(each["output_type"], each.get("name"), each["text"].strip()) for each in cells[1]] == [
        ("stream", "stdout", "a note")
    ]


def test_set_verbose_turns_the_line_off(cells):
    assert cells[2] == []
