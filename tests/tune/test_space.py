from __future__ import annotations

import collections
import json

import pytest

from sqznet import recipes
from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.recipes import IMAGENETTE
from sqznet.tune import oracles, search, space


@pytest.mark.parametrize("name", space.SPACES)
def test_the_named_spaces_give_recipes_that_exist(name):
    declared = oracles._declared(space.load(name))
    assert set(declared.values) == set(space.SPACES[name])
    for field, values in space.SPACES[name].items():
        space._check(field, values, where=name)
        ends = values if isinstance(values, list) else [values["min"], values["max"]]
        for value in ends:
            assert getattr(space.apply(IMAGENETTE, {field: value}), field) == value


def test_a_space_is_read_from_a_file(tmp_path):
    path = tmp_path / "space.json"
    path.write_text(
        json.dumps({"epochs": {"min": 2, "max": 9}, "train_sizes": ["", "0:64,14:96"], "batch_norm": [True, False]})
    )
    read = space.load(str(path))
    declared = oracles._declared(read)
    assert isinstance(declared.values["epochs"], int)
    made = space.apply(IMAGENETTE, {"epochs": 3, "train_sizes": "0:64,2:96", "batch_norm": False})
    assert (made.epochs, made.train_sizes, made.batch_norm) == (3, ((0, 64), (2, 96)), False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "must be a JSON object of one field or more"),
        ('{"epochs": [1.5]}', "epochs is 1.5; expected a whole number"),
        ('{"epochs": {"min": 1.5, "max": 3}}', "epochs: min is 1.5; expected a whole number"),
        ('{"batch_norm": ["false"]}', 'batch_norm is "false"; expected true or false'),
        ('{"learning_rate": {"min": true, "max": 2}}', "learning_rate: min is true; expected a number"),
        ('{"learning_rate": [NaN]}', "NaN is not a number of JSON"),
        ('{"activation": ["tanh"]}', "activation is 'tanh'; it must be one of relu, elu"),
        ('{"train_sizes": ["0:64", "x"]}', "train_sizes cannot be 'x'"),
        ('{"epochs": [1], "epochs": [2]}', "'epochs' is given twice"),
        ('{"learnin_rate": [1]}', "a recipe has no field learnin_rate"),
        ('{"dropout": [2.0, 3.0]}', "dropout is 2.0; it must be at least 0 and below 1"),
        ('{"dropout": {"min": 0, "max": 1.5}}', "dropout is 1.5; it must be at least 0 and below 1"),
        ('{"global_batch_size": [0, 5]}', "global_batch_size is 0; it must be 1 or more"),
        ('{"seed": [-1]}', "seed is -1; it must be 0 or more"),
        ('{"activation": []}', "activation must have one choice or more"),
        ('{"activation": {"min": 0, "max": 1}}', "activation is .*expected a list of choices$"),
        ('{"dropout": {"min": 0}}', 'dropout is .*or {"min": a, "max": b}'),
        ('{"dropout": {"min": 1, "max": 0}}', "dropout runs from 1 to 0; expected two numbers, the lower one first"),
        ('{"dropout": {"min": 0, "max": 1, "scale": "log"}}', "scale 'log'; expected linear, or log with min above 0"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "space.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        space.load(str(path))
    with pytest.raises(InputError, match="no space 'wide'; there are rates, augmentation, default"):
        space.load("wide")


def test_a_short_hyperband_trial_is_a_short_schedule():
    values = {"learning_rate": 0.3, "tuner/epochs": 8, "tuner/bracket": 1}
    made = search.recipe_of(IMAGENETTE.replace(train_sizes=()), values)
    assert (made.learning_rate, made.epochs, made.warmup_epochs) == (0.3, 8, 5 * 8 / 32)
    whole = search.recipe_of(IMAGENETTE, {"learning_rate": 0.3, "tuner/epochs": 0})
    assert (whole.epochs, whole.warmup_epochs) == (32, 5)
    assert recipes.from_dict(json.loads(json.dumps(made.to_dict())), "here") == made


@pytest.mark.parametrize(
    ("trials", "epochs", "expected"),
    [
        (12, 16, {6: 6, 16: 6}),  # six of six epochs, two of which go on; then four at full length
        (18, 16, {2: 12, 6: 4, 16: 2}),  # KerasTuner's own beginning
        (3, 16, {16: 3}),
        (4, 1, {1: 4}),
    ],
)
def test_hyperband_lets_the_best_go_on_within_the_trials_that_it_has(trials, epochs, expected, tmp_path):
    oracle = oracles.make("hyperband", {"learning_rate": {"min": 0.1, "max": 0.2}}, trials, epochs, seed=0)
    oracle._set_project_dir(str(tmp_path), "trials")
    seen, rates = collections.Counter(), []
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        values = trial.hyperparameters.values
        seen[values["tuner/epochs"]] += 1
        rates.append(values["learning_rate"])
        oracle.update_trial(trial.trial_id, {oracles.OBJECTIVE: values["learning_rate"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert dict(seen) == expected
    if len(expected) > 1:
        first = rates[: max(expected.values())]
        assert max(first) in rates[len(first) :], "the best goes on"


def test_weights_decide_the_network_that_is_searched_around(tmp_path):
    searched = space.without_network_fields(space.load("default"), "default")
    assert "bypass" not in searched and "activation" not in searched and "learning_rate" in searched
    with pytest.raises(InputError, match=r"mine.json: arch, bypass cannot be searched with --init_weights"):
        space.without_network_fields({"arch": ["v1.0"], "dropout": [0.1], "bypass": ["simple"]}, "mine.json")


@pytest.mark.parametrize("tuner", ["random", "hyperband"])
@pytest.mark.parametrize("kill_after", ["trial written", "trial begun", "metrics", "trial ended", "all written"])
def test_a_search_killed_between_two_files_loses_no_trial_and_doubles_none(tuner, kill_after, tmp_path, monkeypatch):
    """Each trial with the values of a search that was left alone, and each ended once."""

    class Killed(BaseException):
        pass

    def oracle(folder):
        made = oracles.make(tuner, {"learning_rate": {"min": 0.1, "max": 0.2}}, 6, 9, seed=0)
        made._set_project_dir(str(folder), "trials")
        if (folder / "trials" / "oracle.json").is_file():
            made.reload()
        return made

    def go_on(made, trained, kill_in=None):
        writes = 0

        def written(path, content):
            nonlocal writes
            real(path, content)
            writes += 1
            if writes == kill_in:
                raise Killed

        real = files.write_text
        with monkeypatch.context() as patched:
            patched.setattr(files, "write_text", written)
            while (trial := made.create_trial("tuner0")).status == "RUNNING":
                rate = trial.hyperparameters.values["learning_rate"]
                trained.setdefault(trial.trial_id, set()).add(rate)
                if not trial.metrics.exists(oracles.OBJECTIVE):
                    made.update_trial(trial.trial_id, {oracles.OBJECTIVE: rate})
                trial.status = "COMPLETED"
                made.end_trial(trial)
                made.save()  # as the tuner does

    whole, killed = {}, {}
    go_on(oracle(tmp_path / "whole"), whole)
    number = ["trial written", "trial begun", "metrics", "trial ended", "all written"].index(kill_after) + 1
    for kill_in in (number, 7, 6 + number):
        with pytest.raises(Killed):
            go_on(oracle(tmp_path / "killed"), killed, kill_in)
    last = oracle(tmp_path / "killed")
    go_on(last, killed)
    assert killed == whole and len(whole) == 6
    assert sorted(last.end_order) == last.start_order == sorted(whole)


def test_fields_that_go_together_only_are_taken_together(tmp_path):
    path = tmp_path / "space.json"
    path.write_text('{"sparsity": [0.2, 0.3], "sparse_epochs": ["0,4"]}')
    assert space.load(str(path))["sparsity"] == [0.2, 0.3]
