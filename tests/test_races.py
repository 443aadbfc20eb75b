"""`python -m tests.races` and `python -m tests.kill_search`, a few rounds of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import kill_search, races

ROOT = races.Path(__file__).parents[1]
namespaces = pytest.mark.skipif(not races.can_have_namespaces(), reason="PID namespaces need Linux and root")
settings = pytest.mark.parametrize("setting", ["processes", pytest.param("namespaces", marks=namespaces)])


def race(*flags: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.races", *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@settings
def test_two_processes_write_the_same_files_and_both_stay_whole(setting):
    race("--rounds=1", "--case=replaced", f"--setting={setting}")


@pytest.mark.slow
@settings
@pytest.mark.parametrize("case", [case for case in races.CASES if case != "replaced"])
def test_two_commands_on_one_folder_damage_nothing_and_name_each_other(case, setting):
    race("--rounds=2", f"--case={case}", f"--setting={setting}")


@pytest.mark.slow
def test_a_search_that_is_stopped_leaves_no_process_and_loses_no_trial(tmp_path):
    assert any(counts["stopped"] for counts in kill_search.torture(tmp_path, 1, list(kill_search.SIGNALS)).values())
