"""A class is found by its WordNet id, by its whole label, or by one of the names in it."""

from __future__ import annotations

import dataclasses

import pytest

from sqznet.core.errors import InputError
from sqznet.network import labels
from sqznet.network.keras_file import Card
from sqznet.predict import inference
from sqznet.train import finetune

IMAGENET = tuple(labels.imagenet())
WORDS = labels.readable(IMAGENET)
WITH_ALL_WORDS = ("n03417042 garbage truck, dustcart", "n01440764 tench, Tinca tinca")


@pytest.mark.parametrize("known", [IMAGENET, WORDS])
@pytest.mark.parametrize(
    "name",
    ["garbage truck", "Garbage_Truck", "garbage-truck", "garbage truck, dustcart", "n03417042",
     "n03417042 garbage truck, dustcart", "n03417042_garbage_truck", "n03417042-some-truck"],
)  # fmt: skip
def test_a_class_is_found_however_it_is_spelled(known, name):
    assert labels.match([name], known) == [[569]]


@pytest.mark.parametrize("name", ["dustcart", "Garbage Truck", "n03417042", "n03417042 garbage truck, dustcart"])
def test_each_name_in_a_label_matches_its_class(name):
    assert labels.match([name, "Tinca_tinca"], WITH_ALL_WORDS) == [[0], [1]]


def test_a_whole_label_has_priority_over_a_name_in_another():
    assert labels.match(["truck"], ["truck", "garbage truck, truck"]) == [[0]]
    assert labels.match(["crane", "crane (bird)", "moon"], IMAGENET) == [[134, 517], [134], []]


def test_an_unknown_name_gets_similar_names():
    assert labels.close_to("garbage trck", IMAGENET)[0] == "garbage truck"
    assert labels.close_to("xyzzy", IMAGENET) == []


def predictor(trained_run, names):
    made = inference.load(trained_run)
    return dataclasses.replace(made, card=Card(names, made.card.preprocessing))


def test_evaluation_finds_the_outputs_by_any_name(trained_run, tmp_path):
    made = predictor(trained_run, ("n01440764", "n03417042", "n02012849"))
    assert made.outputs_of(("Garbage_Truck", "crane", "tench"), tmp_path).tolist() == [1, 2, 0]
    assert made.outputs_of(("garbage truck, dustcart",), tmp_path).tolist() == [1]


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("n02012849", "n03126707", "cat"), ("crane",), r"several outputs of .*: 0 \('crane \(bird\)'\), 1 \('crane"),
        (("n03417042", "cat", "dog"), ("garbage trck",), "has no class 'garbage trck'; .*: 'garbage truck'"),
        (("n03417042 garbage truck, dustcart", "cat", "dog"), ("dustcart", "garbage truck"), "both output 0 of"),
        (("a", "a", "b"), ("a",), r"several outputs of .*: 0 \('a'\), 1 \('a'\)"),
        (("a", "b", "c"), ("c", "a", "b"), "order their classes differently: class 0 is 'a' in the model and 'c'"),
    ],
)
def test_evaluation_refuses_names_that_could_be_several_or_none(names, classes, message, trained_run, tmp_path):
    with pytest.raises(InputError, match=message):
        predictor(trained_run, names).outputs_of(classes, tmp_path)


def test_fine_tuning_suggests_outputs_for_a_new_class():
    assert finetune.hints(("tench", "crane", "garbage trck", "my cat"), IMAGENET) == [
        "'crane' may be 'crane (bird)' or 'crane (machine)': use one of these names",
        "'garbage trck' is similar to 'garbage truck'",
    ]
