from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sqznet.core import plots


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures, save = [], plots._save

    def note(figure, path):
        save(figure, path)
        figures.append(figure)

    monkeypatch.setattr(plots, "_save", note)
    return figures


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {"epoch": n, "train_loss": 1 / n, "train_top1": 0.5, "val_loss": 1 / n, "val_top1": 0.9, "val_top5": 1.0}
        for n in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 3, 80])
def test_a_training_curve_has_whole_epochs_and_the_kept_one(drawn, tmp_path, epochs):
    plots.training_curve(history(epochs), tmp_path / "curve.png", "a run", kept=history(epochs)[-1], classes=10)
    for axes in drawn[0].axes:
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
        legend = [text.get_text() for text in axes.get_legend().get_texts()]
        assert any(text.startswith(f"kept: epoch {epochs}, val ") for text in legend)


def test_a_training_curve_marks_the_epoch_that_it_is_told(drawn, tmp_path):
    plots.training_curve(history(3), tmp_path / "curve.png", "a run", kept=history(3)[1])
    assert "kept: epoch 2, val top1 90.00 %" in [text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()]


@pytest.mark.parametrize(("classes", "shown"), [(5, False), (6, True)])
def test_top5_is_drawn_where_it_says_something(drawn, tmp_path, classes, shown):
    plots.training_curve(history(2), tmp_path / "curve.png", "a run", classes=classes)
    assert any("top5" in text.get_text() for text in drawn[0].axes[1].get_legend().get_texts()) == shown


def test_a_confusion_matrix_has_counts_shares_and_names_of_a_bearable_length(drawn, tmp_path):
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 2]])
    names = ["cat", "a $dog$ [of some breed] whose name goes on and on", "犬"]
    plots.confusion_matrix(counts, names, tmp_path / "confusion.png", "best.keras on test", totals=np.array([5, 4, 2]))
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["3\n60 %", "1\n20 %", "4\n100 %", "2\n100 %"]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "cat (5)" and max(map(len, labels)) <= 40


@pytest.mark.parametrize(("classes", "named"), [(40, True), (41, False), (1000, False)])
def test_a_confusion_matrix_of_many_classes_has_no_names(drawn, tmp_path, classes, named):
    plots.confusion_matrix(np.eye(classes, dtype=int), [f"class {n}" for n in range(classes)], tmp_path / "c.png", "x")
    assert bool(drawn[0].axes[0].texts) == named
    assert max(Image.open(tmp_path / "c.png").size) <= 1600


@pytest.mark.parametrize(("count", "size"), [(1, (240, 290)), (12, (960, 870)), (120, (1920, 1740))])
def test_a_prediction_sheet_keeps_to_a_size_that_can_be_looked_at(tmp_path, count, size):
    images = [np.zeros((8, 8, 3), np.uint8)] * count
    plots.prediction_sheet(
        images, ["a name of $x$ that is _long_ and has blanks.jpg\ncat 90 %"] * count, tmp_path / "s.png"
    )
    assert Image.open(tmp_path / "s.png").size == size
