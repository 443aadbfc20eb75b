from __future__ import annotations

import pytest

from sqznet import recipes
from sqznet.errors import InputError
from sqznet.training import fit, schedule


@pytest.mark.parametrize(
    ("records", "batch"),
    [(9469, 64), (384, 64), (383, 32), (190, 16), (126, 16), (63, 8), (24, 8), (8, 8), (7, 7), (2, 2), (1, 1)],
)
def test_a_small_set_gets_batches_that_leave_updates_in_an_epoch(records, batch):
    fitted = fit.fitted(recipes.FINETUNE, records, 1, ())
    assert fitted.global_batch_size == batch
    assert fitted.learning_rate == pytest.approx(recipes.FINETUNE.learning_rate * batch / 64)
    assert schedule.plan(fitted, records).total_steps >= 1
    assert fitted.replace(global_batch_size=64, learning_rate=recipes.FINETUNE.learning_rate) == recipes.FINETUNE


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("records", [2, 50, 125])
def test_every_named_recipe_can_train_a_small_set(name, records):
    schedule.plan(fit.fitted(recipes.load(name), records, 1, ()), records)


@pytest.mark.parametrize(("records", "replicas", "batch"), [(126, 2, 16), (126, 3, 15), (7, 2, 6), (3, 2, 2)])
def test_a_fitted_batch_can_be_divided_among_the_replicas(records, replicas, batch):
    assert fit.fitted(recipes.IMAGENETTE, records, replicas, ()).global_batch_size == batch


def test_what_the_user_has_chosen_is_not_fitted():
    assert fit.fitted(recipes.FINETUNE, 24, 1, {"global_batch_size"}) == recipes.FINETUNE
    assert fit.fitted(recipes.FINETUNE, 24, 1, {"learning_rate"}).learning_rate == recipes.FINETUNE.learning_rate
    with pytest.raises(InputError, match="has 24 records, fewer than one global batch of 64: lower --global_batch"):
        schedule.plan(recipes.FINETUNE, 24)


def test_a_set_that_is_large_enough_keeps_the_recipe():
    assert fit.fitted(recipes.MODERN, 1_231_167, 8, ()) == recipes.MODERN


@pytest.mark.parametrize(
    ("records", "weights", "name"), [(125, False, "imagenette"), (125, True, "finetune"), (1_231_167, False, "article")]
)
def test_the_default_recipe_suits_the_set(records, weights, name):
    assert fit.default_recipe(records, weights) == name
