"""The short form of `python -m tests.torture`."""

from __future__ import annotations

import pytest

from tests.torture import make_set, torture


@pytest.mark.slow
def test_killed_three_times_a_run_ends_like_one_left_alone(tmp_path):
    make_set(tmp_path / "set")
    ways = torture(tmp_path / "set", tmp_path, kills=3, epochs=3)
    assert ways.total() == 3


@pytest.mark.slow
def test_one_of_two_workers_killed_ends_both_names_it_and_costs_nothing(tmp_path):
    make_set(tmp_path / "set")
    ways = torture(tmp_path / "set", tmp_path, kills=1, workers=2, epochs=2, seed=1)
    assert ways["at a step"] == 1  # both were training
    assert ways["slowest end, s"] <= 60
    said = "".join((tmp_path / f"killed-{worker}.txt").read_text() for worker in (0, 1))
    assert "is lost: it no longer answers" in said
    assert f"Start all workers again with --resume --run_dir={tmp_path / 'killed'}" in said
