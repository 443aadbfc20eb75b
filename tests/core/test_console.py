"""Names of files, classes and runs are shown as they are, whatever they would mean to what prints them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest

from sqznet.core import console, plots
from sqznet.export import formatting

NAMES = (
    "data/[old]/set", "[/x]", "[red]x[/red]", "[link=http://x]y[/link]", ":smile:", "$5 or $6", "100 %s %(prog)s",
    "{task.description}", "\\[x]", "猫の写真", "\u202eabc", "é😀",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(name, capsys):
    console.result(name)
    console.table([name, "second"], [[name, "1"]], title=f"title {name}")
    console.say(name)
    with console.progress("images/s") as bar:
        bar.advance(bar.add_task(name, total=1))
    printed = capsys.readouterr()
    assert printed.out.count(name) == 4 and printed.err.count(name) >= 2


@pytest.mark.parametrize(("name", "shown"), [("a\x1b[31mb\x07", "a\\x1b[31mb\\x07"), ("caf\udce9", "caf\\xe9")])
def test_what_a_terminal_would_obey_is_spelled(name, shown, capsys):
    console.table([name], [[name]], title=name)
    with console.progress("images/s") as bar:
        bar.advance(bar.add_task(name, total=1))
    printed = capsys.readouterr()
    assert printed.out.count(shown) == 3 and shown in printed.err
    assert "\x1b[31m" not in printed.out + printed.err


def test_a_table_and_its_title_are_never_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    title, cells = "runs/" + "x" * 300, ["learning_rate", "y" * 200]
    console.table(["setting", "value"], [cells], title=title)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == title and all(any(cell in line for line in lines) for cell in cells)


def test_a_terminal_without_the_characters_of_a_name_gets_them_spelled():
    code = "from sqznet.core import console; console.say('猫'); console.table(['猫'], [['é']], title='猫')"
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "\\u732b" in done.stderr and "\\xe9" in done.stdout, done.stderr


def test_dollars_in_a_picture_are_no_formula(tmp_path):
    names = ["$x^$", "$a$", "\\alpha $", "_b", "{"]
    plots.confusion_matrix(np.eye(5) * 100, names, tmp_path / "matrix.png", "$x^$ on $")
    plots.prediction_sheet([np.zeros((4, 4, 3), np.uint8)], ["$x^$\n$ 3 %"], tmp_path / "sheet.png")
    assert {path.read_bytes()[:4] for path in tmp_path.iterdir()} == {b"\x89PNG"}


def test_markdown_of_a_name_means_nothing_in_a_card():
    assert formatting.markdown("$x$ :smile: [a](b) <b> 1:2") == "\\$x\\$ \\:smile: \\[a\\](b) \\<b\\> 1:2"


def test_a_bar_tells_of_itself_where_it_cannot_be_drawn(monkeypatch, capsys):
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(console, "POLL_SECONDS", 0.02)
    bar = console.progress("images/s", watch=lambda: bar.update(task, completed=7))
    task = bar.add_task("reading [photographs]", total=9)

    with bar:
        time.sleep(0.5)
    said = capsys.readouterr().err
    assert 1 <= said.count("reading [photographs], 7 of 9; ") <= 6  # not each time that it is looked at


def test_what_is_being_done_is_said_at_once(capsys):
    with console.doing("importing [x]"):
        assert capsys.readouterr().err == "importing [x]\n"


def test_a_command_that_shows_nothing_says_that_it_is_still_at_work():
    code = (
        "import time\n"
        "from sqznet.core import console\n"
        "console.HEARTBEAT_SECONDS, console.POLL_SECONDS = 0.1, 0.02\n"
        "with console.heartbeat():\n"
        "    console.say('converting model.tflite')\n"
        "    time.sleep(0.6)\n"
        "console.say('done')\n"
        "time.sleep(0.6)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(r"converting model.tflite\nstill at work after \d+ s: converting model.tflite\n", done.stderr)
    assert done.stderr.endswith("done\n")


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (1200, "1,200 epochs")])
def test_one_is_not_many(number, text):
    assert console.counted(number, "epoch") == text


def test_the_next_command_can_be_typed_as_it_stands(capsys):
    console.next_step("sqznet.evaluate", "--model=runs/it's [mine] $x")
    said = capsys.readouterr().err.removeprefix("next: ").strip()
    assert shlex.split(said) == ["python", "-m", "sqznet.evaluate", "--model=runs/it's [mine] $x"]


def test_a_hidden_bar_that_ends_does_not_count_as_something_shown(monkeypatch, capsys):
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(console, "POLL_SECONDS", 0.02)
    console.say("one")
    before = console._last_output
    with console.progress("images/s", transient=True) as bar:
        bar.add_task("evaluating", total=9)
    assert console._last_output == before
