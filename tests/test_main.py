"""The console command: `sqznet train` is `python -m sqznet.train`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sqznet import __main__ as console_command
from sqznet import __version__
from tests import commands


@pytest.fixture
def sqznet(tmp_path: Path):
    """Runs the script that pip writes for the entry point."""
    script = tmp_path / "bin" / "sqznet"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom sqznet.__main__ import main\nsys.exit(main())\n")
    script.chmod(0o755)

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([script, *words], capture_output=True, text=True, cwd=tmp_path)

    return run


def test_the_list_has_every_command():
    typed = {name.removeprefix("sqznet.") for name in commands.MODULES}
    assert set(console_command.COMMANDS) == {name for name in typed if "." not in name}


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_commands_are_listed_in_the_order_of_the_work(sqznet, words):
    done = sqznet(*words)
    listed = [line.split()[0] for line in done.stdout.split("\n\n")[2].splitlines()]
    assert done.returncode == 0 and listed == list(console_command.COMMANDS)


def test_the_list_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['sqznet']\n"
        "from sqznet.__main__ import main; main()\n"
        "slow = {'argparse', 'rich', 'numpy', 'PIL', 'tensorflow'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=commands.ROOT)
    assert done.returncode == 0, done.stderr


def test_the_version_is_printed(sqznet):
    assert sqznet("--version").stdout == f"sqznet {__version__}\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tain", "error: there is no command 'tain'; did you mean train? (see sqznet --help)\n"),
        ("fly", "error: there is no command 'fly' (see sqznet --help)\n"),
    ],
)
def test_an_unknown_command_gets_the_nearest_one(sqznet, word, said):
    done = sqznet(word)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_help_errors_and_exit_code_are_those_of_the_command_in_the_form_that_the_user_types(sqznet):
    said = sqznet("train", "--help").stdout
    assert said.startswith("usage: sqznet train [-h]")
    assert "sqznet train --data=" in said and "python -m sqznet." not in said
    done = sqznet("runs", "--runs=nowhere")
    assert done.returncode == 2
    assert done.stderr == "error: no runs in nowhere/: train one first (sqznet train), or name another --runs\n"


def test_python_dash_m_keeps_its_own_form(tmp_path):
    for words in (["sqznet", "runs"], ["sqznet.runs"]):
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path)
        assert "train one first (python -m sqznet.train)" in done.stderr


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("sqznet tr", {"train"}),
        ("sqznet train --lear", {"--learning_rate"}),
        ("sqznet train --arch=", {"v1.0", "v1.1"}),
        ("sqznet evaluate --resize_as=a", {"android"}),
    ],
)
def test_the_shell_completes_commands_flags_and_values(line, completions, tmp_path):
    answer = tmp_path / "answer"
    # As the function of register-python-argcomplete calls the program.
    environment = os.environ | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><=;|&(:", "COMP_LINE": line, "COMP_POINT": str(len(line)),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "sqznet"], env=environment, cwd=tmp_path, check=True)
    assert {each.strip() for each in answer.read_text().split("\n")} == completions
