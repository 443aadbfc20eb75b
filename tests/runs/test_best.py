from __future__ import annotations

import math

import pytest

from sqznet.runs import best, history
from sqznet.train.state import RunState


def line(epoch: int, top1: float, loss: float) -> dict[str, float]:
    return {"epoch": epoch, "val_top1": top1, "val_top5": 1.0, "val_loss": loss}


TIED = [line(1, 0.96, 0.3), line(2, 1.0, 0.252), line(3, 0.96, 0.01), line(4, 1.0, 0.083), line(5, 1.0, 0.2)]


def test_of_equal_top1_the_lower_val_loss_decides():
    assert best.of(TIED)["epoch"] == 4


def test_epochs_equal_in_both_leave_the_first():
    assert best.of([line(1, 0.5, 0.7), line(2, 0.5, 0.7)])["epoch"] == 1


def test_an_accuracy_that_is_no_number_is_the_worst():
    assert best.of([line(1, math.nan, 0.1), line(2, 0.0, 9.0), line(3, math.nan, 0.1)])["epoch"] == 2


def test_a_loss_that_is_no_number_loses_a_tie():
    assert best.of([line(1, 0.5, math.nan), line(2, 0.5, 9.0), line(3, 0.5, math.inf)])["epoch"] == 2


def test_epochs_that_were_not_evaluated_are_passed_over():
    assert best.of([{"epoch": 1, "train_loss": 1.0}]) is None
    assert best.of([{"epoch": 1, "train_loss": 1.0}, line(2, 0.1, 3.0)])["epoch"] == 2


def test_the_end_says_which_epoch_was_kept_and_why():
    said = best.explained(TIED[3], TIED, 27, 3)
    assert said == (
        "kept epoch 4 of 5: val top-1 (rank-1) 100.00 % (n = 27), val loss 0.083; 3 epochs have this top-1, and of "
        "these it has the lowest loss"
    )
    assert "top-5 (rank-5) 100.00 %" in best.explained(TIED[0], TIED[:1], 27, 6)
    assert ";" not in best.explained(TIED[0], TIED[:1], 27, 6)


FIGURES = [
    {**line(1, 0.9, 0.3), "val_balanced_accuracy": 0.5, "val_macro_f1": 0.6},
    {**line(2, 0.8, 0.2), "val_balanced_accuracy": 0.7, "val_macro_f1": 0.6},
    {**line(3, 0.7, 0.1), "val_balanced_accuracy": 0.6, "val_macro_f1": 0.5},
]


@pytest.mark.parametrize(("by", "epoch"), [("top1", 1), ("balanced_accuracy", 2), ("macro_f1", 2), ("loss", 3)])
def test_the_figure_of_the_recipe_decides(by, epoch, tmp_path):
    assert best.of(FIGURES, by)["epoch"] == epoch
    assert history.History(tmp_path, {"recipe": {"best": by}}, FIGURES, []).best["epoch"] == epoch


def test_an_epoch_without_the_figure_is_the_worst():
    """The epochs of a run of an older version have no balanced accuracy."""
    assert best.of([line(1, 1.0, 0.1), FIGURES[0]], "balanced_accuracy") is FIGURES[0]


def test_the_end_names_the_figure_that_decided():
    assert best.explained(FIGURES[1], FIGURES, 50, 3, "macro_f1") == (
        "kept epoch 2 of 3: val top-1 (rank-1) 80.00 %, macro F1 60.00 % (n = 50), val loss 0.200; 2 epochs have this "
        "macro F1, and of these it has the lowest loss"
    )
    assert best.explained(FIGURES[2], FIGURES, 50, 3, "loss").endswith("val loss 0.100")


@pytest.mark.parametrize(
    ("top1", "patience", "ends"),
    [
        ([0.5, 0.6, 0.6, 0.5], 2, True),
        ([0.5, 0.6, 0.6, 0.5], 3, False),
        ([0.5, 0.6, 0.6, 0.7], 1, False),
        ([0.5, 0.4], 0, False),
        ([math.nan, math.nan, math.nan], 2, True),
        ([0.5, None, None, None], 1, False),
        ([0.5, None, None, 0.5], 3, True),
        ([], 1, False),
    ],
)
def test_patience_counts_the_epochs_since_the_figure_rose(top1, patience, ends):
    lines = [{"epoch": i} if value is None else line(i, value, 1 / i) for i, value in enumerate(top1, start=1)]
    assert best.out_of_patience(lines, patience) is ends


def test_patience_goes_by_the_figure_of_the_recipe():
    assert best.out_of_patience(FIGURES, 2, "top1")
    assert not best.out_of_patience(FIGURES, 2, "balanced_accuracy")
    assert not best.out_of_patience(FIGURES, 1, "loss")


@pytest.mark.parametrize(("records", "said"), [(1, "100.0 points"), (27, "3.7 points"), (99, "1.0 points")])
def test_a_val_split_too_small_to_tell_is_named(records, said):
    assert said in best.small_split_warning(records)


def test_a_hundred_photographs_of_val_are_enough():
    assert best.small_split_warning(100) is None


def test_a_checkpoint_of_version_0_2_says_which_epoch_it_kept():
    """It kept the first epoch with the highest top-1, so that is the one that best.keras is of."""
    old = {"step": 30, "sums": {"loss": 0.0, "top1": 0.0, "top5": 0.0, "count": 0.0}, "seconds": 0.0}
    restored = RunState.from_json({**old, "best_top1": 1.0, "history": TIED})
    assert restored.kept["epoch"] == 2
    assert RunState.from_json({**old, "best_top1": -1.0, "history": []}).kept is None
    assert RunState.from_json(restored.to_json()) == restored


def test_runs_goes_by_the_same_rule(tmp_path):
    assert history.History(tmp_path, {}, TIED, []).best["epoch"] == 4
