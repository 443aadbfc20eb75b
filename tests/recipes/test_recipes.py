from __future__ import annotations

import json

import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.recipes import Recipe
from sqznet.train import __main__ as train
from sqznet.train import settings


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
        ({"conv10_padding": 2}, "conv10_padding is 2; it must be 0 to 1"),
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
    assert settings.override(recipes.PAPER, {"epochs": 3}).total_steps is None


def test_fewer_epochs_than_the_warmup_shorten_the_warmup_in_proportion():
    assert settings.override(recipes.IMAGENETTE, {"epochs": 16}).warmup_epochs == 5
    assert settings.override(recipes.IMAGENETTE, {"epochs": 4}).warmup_epochs == 5 * 4 / 32
    assert settings.override(recipes.IMAGENETTE, {"epochs": 4, "warmup_epochs": 6}).warmup_epochs == 6


def test_another_image_size_keeps_the_share_of_the_crop():
    changed = settings.override(recipes.ARTICLE, {"image_size": 113})
    assert (changed.image_size, changed.resize_to) == (113, 127)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"batch_norm": "false"}', 'batch_norm is "false"; expected true or false'),
        ('{"batch_norm": 0}', "batch_norm is 0; expected true or false"),
        ('{"epochs": 1.5}', "epochs is 1.5; expected a whole number"),
        ('{"epochs": 1.0}', "epochs is 1.0; expected a whole number"),
        ('{"epochs": true}', "epochs is true; expected a whole number"),
        ('{"epochs": "3"}', 'epochs is "3"; expected a whole number'),
        ('{"epochs": null}', "epochs is null; expected a whole number"),
        ('{"learning_rate": true}', "learning_rate is true; expected a number"),
        ('{"learning_rate": NaN}', "NaN is not a number of JSON"),
        ('{"learning_rate": 1e999}', "learning_rate is inf; expected a number"),
        ('{"learning_rate": 1%s}' % ("0" * 400), "expected a number"),
        ('{"freeze": 3}', "freeze is 3; expected a string or null"),
        ('{"milestones": 5}', "milestones is 5; expected a list of whole numbers"),
        ('{"milestones": [1, 2.5]}', r"milestones is \[1, 2.5\]"),
        ('{"train_sizes": [[0, 64, 3]]}', r"train_sizes is \[\[0, 64, 3\]\]; .* a list of 2, each a whole number"),
        ('{"train_sizes": [0, 64]}', r"train_sizes is \[0, 64\]"),
        ('{"arch": ["v1.0"]}', r"arch is \[\"v1.0\"\]; expected a string"),
        ('{"name": "../x"}', "name is '../x'"),
        ('{"learning_rat": 0.1}', "a recipe has no field learning_rat; is learning_rate meant"),
        ('{"epochs": 1, "epochs": 2}', "'epochs' is given twice"),
        ('{"recipe": []}', "recipe is .*; expected an object"),
        ('{"recipe": {"epochs": 0}}', "epochs is 0; it must be 1 or more"),
        ("[]", "expected a JSON object"),
        ("null", "expected a JSON object"),
        ("", "is empty"),
        ("{", "cannot be read as JSON"),
        ('{"a": ' * 5000, "cannot be read as JSON"),
    ],
)
def test_a_recipe_file_takes_each_field_in_its_own_type_only(text, message, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"mine.json.*{message}"):
        recipes.load(str(path))


def test_a_recipe_file_that_is_not_there_or_no_text_is_named(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\x00\x81")
    for name, message in (("binary.json", "not text in UTF-8"), ("none.json", "No such file"), ("..json", "No such")):
        with pytest.raises(InputError, match=message):
            recipes.load(str(tmp_path / name))


def test_a_whole_number_is_a_number_and_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('\ufeff{"learning_rate": 1, "total_steps": null, "train_sizes": [[0, 64]]}')
    recipe = recipes.load(str(path))
    assert (recipe.learning_rate, recipe.total_steps, recipe.train_sizes) == (1, None, ((0, 64),))


def config_of_a_run(folder, **others):
    content = {"recipe": recipes.DEMO.to_dict(), "data": "/d/flowers", "init_weights": None, "teacher": None, **others}
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    return path


def test_a_run_s_config_brings_its_data_and_weights(tmp_path, capsys):
    path = config_of_a_run(tmp_path, init_weights={"path": "squeezenet-v1.1"}, teacher="runs/large")
    args = train.make_parser().parse_args([f"--recipe={path}"])
    found = settings.fresh(args, {})
    assert (str(found.data), found.recipe, str(found.teacher)) == ("/d/flowers", recipes.DEMO, "runs/large")
    assert str(found.init_weights) == "squeezenet-v1.1"
    assert set(recipes.NETWORK_FIELDS) <= found.chosen  # that run has adapted its network to the weights
    said = capsys.readouterr().err
    assert f"from {path}: --data=/d/flowers --init_weights=squeezenet-v1.1 --teacher=runs/large" in said
    assert "data/demo" not in said


def test_flags_come_before_a_run_s_config(tmp_path):
    path = config_of_a_run(tmp_path, init_weights={"path": "squeezenet-v1.1"})
    flags = [f"--recipe={path}", "--data=other", "--init_weights=runs/mine"]
    args = train.make_parser().parse_args(flags)
    found = settings.fresh(args, {})
    assert (str(found.data), str(found.init_weights)) == ("other", "runs/mine")
    assert not set(recipes.NETWORK_FIELDS) & found.chosen


@pytest.mark.parametrize("wrong", [{"data": 3}, {"init_weights": "x"}, {"teacher": []}, {"init_weights": {"path": 1}}])
def test_a_run_s_config_with_a_value_of_another_type_is_refused(wrong, tmp_path):
    with pytest.raises(InputError, match="config.json.* expected"):
        settings.fresh(train.make_parser().parse_args([f"--recipe={config_of_a_run(tmp_path, **wrong)}"]), {})


def test_a_run_s_folder_is_its_config_and_a_search_s_file_may_lack_weights(tmp_path, capsys):
    path = config_of_a_run(tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: content[name] for name in ("recipe", "data")}))
    found = settings.fresh(train.make_parser().parse_args([f"--recipe={tmp_path}"]), {})
    assert (str(found.data), found.recipe) == ("/d/flowers", recipes.DEMO) and recipes.load(
        str(tmp_path)
    ) == recipes.DEMO
    path.unlink()
    with pytest.raises(InputError, match="config.json cannot be read: No such file"):
        train.main([f"--recipe={tmp_path}"])


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--train_sizes=5", "argument --train_sizes: '5' is not EPOCH:PIXELS,..., such as 0:64,20:96"),
        ("--milestones=a", "argument --milestones: 'a' is not a list of epochs, such as 50,65,75"),
    ],
)
def test_a_list_of_another_form_is_refused_with_the_form(flag, message):
    with pytest.raises(InputError, match=message):
        train.make_parser().parse_args([flag])


@pytest.mark.parametrize("changes", [{"milestones": (-1,)}, {"train_sizes": ((0, -64),)}, {"image_size": True}])
def test_numbers_below_their_least_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        recipes.ARTICLE.replace(**changes)


def test_help_shows_values_as_they_are_typed():
    shown = " ".join(train.make_parser().format_help().split())
    assert "(article's: 50,65,75)" in shown and "(article's: no)" in shown and "article's: False" not in shown
