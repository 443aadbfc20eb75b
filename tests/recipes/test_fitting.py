from __future__ import annotations

import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.recipes import fitting, schedule
from sqznet.runs import run_folder
from sqznet.train import __main__ as train
from sqznet.train import settings


@pytest.mark.parametrize(
    ("records", "batch"),
    [(9469, 64), (384, 64), (383, 32), (190, 16), (126, 16), (63, 8), (24, 8), (8, 8), (7, 7), (2, 2), (1, 1)],
)
def test_a_small_set_gets_batches_that_leave_updates_in_an_epoch(records, batch):
    fitted = fitting.fitted(recipes.FINETUNE, records, 1, ())
    assert fitted.global_batch_size == batch
    assert fitted.learning_rate == pytest.approx(recipes.FINETUNE.learning_rate * batch / 64)
    assert schedule.plan(fitted, records).total_steps >= 1
    assert fitted.replace(global_batch_size=64, learning_rate=recipes.FINETUNE.learning_rate) == recipes.FINETUNE


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("records", [2, 50, 125])
def test_every_named_recipe_can_train_a_small_set(name, records):
    assert schedule.plan(fitting.fitted(recipes.load(name), records, 1, ()), records).total_steps >= 1


@pytest.mark.parametrize(("records", "replicas", "batch"), [(126, 2, 16), (126, 3, 15), (7, 2, 6), (3, 2, 2)])
def test_a_fitted_batch_can_be_divided_among_the_replicas(records, replicas, batch):
    assert fitting.fitted(recipes.IMAGENETTE, records, replicas, ()).global_batch_size == batch


def test_what_the_user_has_chosen_is_not_fitted():
    assert fitting.fitted(recipes.FINETUNE, 24, 1, {"global_batch_size"}) == recipes.FINETUNE
    assert fitting.fitted(recipes.FINETUNE, 24, 1, {"learning_rate"}).learning_rate == recipes.FINETUNE.learning_rate
    with pytest.raises(InputError, match="has 24 records, fewer than one global batch of 64: lower --global_batch"):
        schedule.plan(recipes.FINETUNE, 24)


def test_a_set_that_is_large_enough_keeps_the_recipe():
    assert fitting.fitted(recipes.MODERN, 1_231_167, 8, ()) == recipes.MODERN


@pytest.mark.parametrize(
    ("records", "weights", "name"), [(125, False, "imagenette"), (125, True, "finetune"), (1_231_167, False, "article")]
)
def test_the_default_recipe_suits_the_set(records, weights, name):
    assert fitting.default_recipe(records, weights) == name


@pytest.mark.slow
def test_a_run_stores_what_was_fitted_and_is_resumed_by_the_same_command(shard_set, tmp_path):
    flags = [f"--data={shard_set.folder}", "--recipe=imagenette", "--image_size=32", "--epochs=1", "--strategy=one"]
    train.main([*flags, f"--run_dir={tmp_path}"])
    stored = run_folder.load_config(tmp_path)["recipe"]
    assert (stored["global_batch_size"], stored["learning_rate"]) == (16, pytest.approx(0.025))
    assert train.main([*flags, f"--run_dir={tmp_path}", "--resume"]) == 0


def test_a_recipe_from_a_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text('{"recipe": {"global_batch_size": 64, "epochs": 2}}')
    for recipe, chosen in ((path, {"epochs", "global_batch_size"}), ("finetune", {"epochs"})):
        args = train.make_parser().parse_args([f"--recipe={recipe}"])
        assert settings.fresh(args, {"epochs": 3}).chosen == chosen


@pytest.mark.parametrize(("records", "kept"), [(128, [32, 64, 128]), (126, [32, 64]), (40, None), (20, None)])
def test_a_search_tries_no_batch_that_the_set_does_not_fill(records, kept):
    space = {"epochs": [1, 2], "global_batch_size": [32, 64, 128]}
    assert fitting.searchable(space, records).get("global_batch_size") == kept
    assert fitting.searchable({"epochs": [1, 2]}, 3) == {"epochs": [1, 2]}
