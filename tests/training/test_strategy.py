from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sqznet.errors import InputError
from sqznet.training import checkpoint, strategy
from sqznet.training.run import Run

from ..conftest import TINY


def weights_after(steps: int, shard_set, recipe, name: str, replicas: int | None, folder) -> dict[str, np.ndarray]:
    run = Run(shard_set, recipe.replace(total_steps=steps), strategy.create(name, replicas), folder)
    run.train()
    return checkpoint.read(checkpoint.model_variables(run.model))


def test_two_replicas_train_the_same_weights_as_one(shard_set, tmp_path):
    # Without dropout: the replicas draw the same masks, each for its part of the batch.
    recipe = TINY.replace(batch_norm=False, dropout=0.0, learning_rate=0.005, weight_decay=5e-3)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = weights_after(6, shard_set, recipe, "one", None, tmp_path / "one")
    two = weights_after(6, shard_set, recipe, "mirrored", 2, tmp_path / "two")
    fresh = weights_after(1, shard_set, recipe.replace(learning_rate=1e-12), "one", None, tmp_path / "one")
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=1e-4, err_msg=name)
    moved = max(float(np.abs(one[name] - fresh[name]).max()) for name in one)
    assert moved > 1e-3  # the test would pass if nothing were trained


BATCH_NORM = """
import sys
from pathlib import Path

import numpy as np

from sqznet import startup

startup.load_tensorflow()
from sqznet.data import manifest
from sqznet.training import checkpoint, strategy
from sqznet.training.run import Run
from tests.conftest import TINY

recipe = TINY.replace(dropout=0.0, image_size=64, resize_to=64, global_batch_size=32, total_steps=1)
recipe = recipe.replace(learning_rate=0.1, warmup_epochs=0.0)
changes = []
for name, replicas in (("one", None), ("mirrored", 2)):
    run = Run(manifest.load(Path(sys.argv[1])), recipe, strategy.create(name, replicas), Path(sys.argv[2]))
    before = checkpoint.read(checkpoint.model_variables(run.model))
    run.train()
    after = checkpoint.read(checkpoint.model_variables(run.model))
    changes.append({name: after[name] - before[name] for name in before})
for name, change in changes[0].items():
    moved, apart = np.linalg.norm(change), np.linalg.norm(change - changes[1][name])
    assert apart < 0.02 * moved + 1e-5, (name, moved, apart)
assert np.linalg.norm(changes[0]["model/conv1/kernel"]) > 0.01
print("equal", len(changes[0]))
"""


def test_batch_norm_takes_its_statistics_over_all_replicas(shard_set, tmp_path):
    """In a process of its own: TensorFlow's collective operations do not survive a second MirroredStrategy."""
    command = [sys.executable, "-c", BATCH_NORM, str(shard_set.folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.startswith("equal 130"), done.stderr


def test_mirrored_uses_the_logical_devices_asked_for():
    made = strategy.create("mirrored", 2)
    assert isinstance(made, tf.distribute.MirroredStrategy)
    assert made.num_replicas_in_sync == 2
    assert strategy.create("mirrored").num_replicas_in_sync == max(1, len(tf.config.list_physical_devices("GPU")))


@pytest.mark.parametrize(
    ("name", "replicas", "environment", "message"),
    [
        ("miror", None, None, "no strategy 'miror'; there are one, mirrored, multiworker"),
        ("one", 2, None, "--replicas goes with --strategy=mirrored"),
        ("multiworker", None, None, "TF_CONFIG, which is not set"),
        ("multiworker", None, '{"cluster": 1}', 'expected {"cluster"'),
    ],
)
def test_what_cannot_be_had_is_refused(name, replicas, environment, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if environment:
        monkeypatch.setenv("TF_CONFIG", environment)
    with pytest.raises(InputError, match=message):
        strategy.create(name, replicas)


def test_a_batch_that_the_replicas_do_not_divide_is_refused(shard_set, tmp_path):
    with pytest.raises(InputError, match="a global batch of 9 cannot be divided among 2 replicas"):
        Run(shard_set, TINY.replace(global_batch_size=9), strategy.create("mirrored", 2), tmp_path)
