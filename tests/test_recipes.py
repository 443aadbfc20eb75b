from __future__ import annotations

import json

import pytest

from sqznet import recipes, train
from sqznet.errors import InputError
from sqznet.recipes import Recipe


def test_article_is_the_published_run():
    article = recipes.load("article")
    assert (article.arch, article.activation, article.image_size, article.batch_norm) == ("v1.0", "elu", 227, False)
    assert (article.global_batch_size, article.learning_rate, article.epochs) == (128, 0.01, 80)
    assert article.milestones == (50, 65, 75)
    assert (article.momentum, article.weight_decay, article.dropout) == (0.9, 2e-4, 0.5)


def test_paper_is_the_released_solver():
    paper = recipes.load("paper")
    assert (paper.activation, paper.schedule, paper.learning_rate) == ("relu", "linear", 0.04)
    assert (paper.total_steps, paper.global_batch_size) == (170_000, 512)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_survives_json(name, tmp_path):
    recipe = recipes.load(name)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"recipe": recipe.to_dict()}))
    assert recipes.load(str(path)) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "v2.0"}, "arch is 'v2.0'; it must be one of v1.0, v1.1"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"bypass": "double"}, "bypass is 'double'; it must be one of none, simple, complex"),
        ({"conv10_padding": 2}, "conv10_padding is 2; it must be 0 or 1"),
        ({"resize": "stretch"}, "resize is 'stretch'; it must be one of short, squash"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; it must be above 0 and at most 1"),
        ({"distill_weight": -0.1}, "distill_weight is -0.1; it must be 0 to 1"),
        ({"distill_temperature": 0.0}, "distill_temperature is 0.0; it must be above 0"),
        ({"image_size": 300}, "a crop of 300 pixels does not fit"),
    ],
)
def test_a_value_out_of_range_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Recipe().replace(**changes)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(
        InputError,
        match="no recipe 'artcle'; there are article, paper, modern, imagenette, imagenette-long, demo, finetune, dsd",
    ):
        recipes.load("artcle")


def test_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"learning_rat": 1}')
    with pytest.raises(InputError, match=r"mine.json: a recipe has no field learning_rat"):
        recipes.load(str(path))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--learning_rate=0.5"], {"learning_rate": 0.5}),
        (["--batch_norm"], {"batch_norm": True}),
        (["--no-batch_norm"], {"batch_norm": False}),
        (["--freeze=until:fire8"], {"freeze": "until:fire8"}),
        (["--bypass=complex"], {"bypass": "complex"}),
        (["--milestones=3,5"], {"milestones": (3, 5)}),
        (["--sparse_epochs=0,4"], {"sparse_epochs": (0, 4)}),
        (["--train_sizes=0:64,4:96"], {"train_sizes": ((0, 64), (4, 96))}),
    ],
)
def test_flags_override_fields(flags, expected):
    args = train.make_parser().parse_args(flags)
    assert {name: getattr(args, name) for name in expected} == expected


def test_counting_in_epochs_replaces_counting_in_steps():
    assert train.override(recipes.PAPER, {"epochs": 3}).total_steps is None


def test_another_image_size_keeps_the_share_of_the_crop():
    changed = train.override(recipes.ARTICLE, {"image_size": 113})
    assert (changed.image_size, changed.resize_to) == (113, 127)
