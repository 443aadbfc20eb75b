from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sqznet.data import __main__ as command
from sqznet.data import build
from sqznet.data.sources import synthetic


def test_a_drawing_is_the_same_for_the_same_key_and_seed():
    assert synthetic.draw("train/ball/1", 1, seed=0) == synthetic.draw("train/ball/1", 1, seed=0)
    assert synthetic.draw("train/ball/1", 1, seed=0) != synthetic.draw("train/ball/2", 1, seed=0)
    assert synthetic.draw("train/ball/1", 1, seed=0) != synthetic.draw("train/ball/1", 1, seed=1)


def pixels(split: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawings at 24 x 24 pixels, as rows."""
    rows, labels = [], []
    for label, name in enumerate(synthetic.CLASSES):
        for index in range(per_class):
            image = Image.open(io.BytesIO(synthetic.draw(f"{split}/{name}/{index:05d}", label, seed=0)))
            rows.append(np.asarray(image.resize((24, 24), Image.Resampling.BOX), np.float64).ravel() / 255)
            labels.append(label)
    return np.array(rows), np.array(labels)


def test_a_linear_model_on_pixels_stays_below_60_per_cent():
    """Ridge regression with the best of several strengths, chosen on the test split in the model's favour."""
    (train, train_labels), (test, test_labels) = pixels("train", 150), pixels("test", 60)
    mean = train.mean(axis=0)
    train, test = train - mean, test - mean
    targets = np.eye(10)[train_labels]
    gram, moments = train.T @ train, train.T @ targets
    accuracies = [
        ((test @ np.linalg.solve(gram + strength * np.eye(len(gram)), moments)).argmax(axis=1) == test_labels).mean()
        for strength in (1.0, 10.0, 100.0, 1000.0)
    ]
    assert 0.1 < max(accuracies) < 0.6


@pytest.mark.slow
def test_a_build_suggests_the_demo_recipe_unless_training_built_the_set(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(synthetic, "PER_CLASS", dict.fromkeys(synthetic.PER_CLASS, 2))
    build.build_demo(tmp_path / "demo")
    assert "next:" not in capsys.readouterr().err
    assert command.main(["--source=synthetic", f"--out={tmp_path / 'demo'}"]) == 0
    assert f"next: python -m sqznet.train --data={tmp_path / 'demo'} --recipe=demo" in capsys.readouterr().err
