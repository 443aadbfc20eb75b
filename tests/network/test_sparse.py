"""Dense-sparse-dense training: pruned weights are zero in the sparse epochs only."""

from __future__ import annotations

import numpy as np
import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.network import sparse
from sqznet.recipes import schedule
from sqznet.runs import checkpoint
from sqznet.train import strategy
from sqznet.train.run import Run
from tests.conftest import TINY

DSD = TINY.replace(epochs=3, sparsity=0.4, sparse_epochs=(1, 2), dropout=0.0)


def test_the_smallest_weights_are_pruned_and_pruning_again_changes_nothing():
    kernel = np.array([[3.0, -0.1], [0.2, -4.0], [0.0, 0.2]], np.float32)
    np.testing.assert_array_equal(sparse.mask(kernel, 0.5), [[1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(sparse.mask(kernel * sparse.mask(kernel, 0.5), 0.5), sparse.mask(kernel, 0.5))
    assert sparse.mask(kernel, 0.0).all()


def zeros(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: array == 0 for name, array in arrays.items() if name.startswith("model/") and name.endswith("/kernel")
    }


def test_weights_are_zero_in_the_sparse_epochs_and_only_then_also_when_resumed(shard_set, tmp_path):
    run = Run(shard_set, DSD.replace(steps_per_call=1), strategy.create("one"), tmp_path / "run")
    first, end = (run.schedule.epoch_start(epoch) for epoch in DSD.sparse_epochs)
    batches = run.strategy.distribute_datasets_from_function(lambda _: _batches(run))
    iterator, held = iter(batches), {}
    for step in range(end + 1):
        run._train_call(iterator, range(step, step + 1))
        now = zeros(checkpoint.read(run.variables))
        shares = {name: each.mean() for name, each in now.items()}
        if step < first or step >= end:
            assert max(shares.values()) < 0.05, f"step {step}"
            continue
        held = held or now
        for name, each in now.items():
            assert shares[name] == pytest.approx(0.4, abs=1 / each.size), f"step {step}"
            np.testing.assert_array_equal(each, held[name], err_msg=f"step {step}: {name}")
        if step == first + 1:
            run.save()
    assert held
    run.resume()
    assert run.state.step == first + 2
    run._train_call(iterator, range(first + 2, first + 3))
    for name, each in zeros(checkpoint.read(run.variables)).items():
        np.testing.assert_array_equal(each, held[name], err_msg=f"resumed: {name}")


def _batches(run):
    from sqznet.data import pipeline

    return pipeline.training_batches(run.manifest, run.schedule, replicas=1)


def test_sparse_epochs_become_steps():
    plan = schedule.plan(recipes.ARTICLE.replace(sparsity=0.3, sparse_epochs=(1, 3), global_batch_size=10), 25)
    assert [plan.is_sparse(step) for step in range(10)] == [False] * 3 + [True] * 5 + [False] * 2
    assert not any(map(schedule.plan(recipes.ARTICLE, 1_000).is_sparse, range(10)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 0.3}, "sparsity is 0.3 and sparse_epochs are .*: one needs the other"),
        ({"sparse_epochs": (1, 2)}, "one needs the other"),
        ({"sparsity": 1.0, "sparse_epochs": (1, 2)}, "sparsity is 1.0; it must be at least 0 and below 1"),
        ({"sparsity": 0.3, "sparse_epochs": (2, 2)}, "they must be two, the first and a later one"),
        ({"sparsity": 0.3, "sparse_epochs": (2,)}, "they must be two"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        recipes.ARTICLE.replace(**changes)
