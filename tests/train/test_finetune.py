from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sqznet import recipes
from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.data import pipeline
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, fold, keras_file, labels, model
from sqznet.network.architecture import Network
from sqznet.network.keras_file import Card
from sqznet.network.sqz import convert, encoder
from sqznet.predict import inference
from sqznet.runs import checkpoint
from sqznet.train import __main__ as train
from sqznet.train import finetune, start, strategy
from sqznet.train.run import Run
from tests.conftest import CLASSES, TINY

MEANS = (123.0, 117.0, 104.0)
WEIGHTS = {"file": "x.caffemodel", "sha256": "0" * 64, "format": "caffemodel", "input": "caffe"}


def write_model(path: Path, network: Network, classes: tuple[str, ...]) -> Path:
    """A .keras file as an import leaves it."""
    card = Card(classes, Preprocessing(network.image_size, network.image_size), None, "ImageNet", WEIGHTS)
    keras_file.save(model.build(network, channel_means=MEANS), card, path)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """An imported network of five classes, without batch norm, as the published ones are."""
    path = tmp_path_factory.mktemp("imported") / "weights.keras"
    return write_model(path, Network(5, "v1.1", image_size=32), tuple("abcde"))


def recipe_for(origin: finetune.Origin, **changes) -> recipes.Recipe:
    return origin.adapt(TINY.replace(epochs=1, warmup_epochs=0, learning_rate=1e-3, **changes), chosen=set(changes))


def train_from(imported: Path, shard_set, run_dir: Path, **changes) -> dict[str, np.ndarray]:
    """The variables of best.keras after an epoch from these weights."""
    recipe = TINY.replace(epochs=1, warmup_epochs=0, learning_rate=1e-3, **changes)
    options = {"strategy_name": "one", "replicas": None, "resume": False, "chosen": set(changes)}
    start.train(shard_set, recipe, run_dir=run_dir, init_weights=imported, **options)
    trained, _ = inference.load_keras(run_dir)
    return {f"{layer.name}/{each.name}": np.asarray(each) for layer in trained.layers for each in layer.variables}


def test_the_network_follows_the_weights_unless_told_otherwise(imported):
    origin = finetune.load(imported)
    adapted = origin.adapt(recipes.IMAGENETTE.replace(bypass="complex"), chosen={"bypass"})
    assert (adapted.arch, adapted.batch_norm, adapted.bypass) == ("v1.1", False, "complex")
    assert adapted.image_size == recipes.IMAGENETTE.image_size


def test_all_weights_but_conv10_are_taken_over(imported, shard_set, tmp_path, capsys):
    origin = finetune.load(imported)
    made = Run(shard_set, recipe_for(origin), strategy.create("one"), tmp_path, origin=origin.to_dict())
    assert origin.put_into(made.model, shard_set.classes) == 0
    for (layer, name), array in origin.arrays.items():
        here = np.asarray(getattr(made.model.get_layer(layer), name))
        if layer == "conv10":
            assert here.shape[-1] == 3
        else:
            np.testing.assert_array_equal(here, array)
    assert model.describe(made.model, 32)[1] == MEANS  # not those of the photographs: conv1 is used to these


def test_conv10_too_is_taken_over_for_as_many_classes(shard_set, tmp_path):
    origin = finetune.load(write_model(tmp_path / "x.keras", Network(3, "v1.1", image_size=32), CLASSES))
    made = Run(shard_set, recipe_for(origin), strategy.create("one"), tmp_path, origin=origin.to_dict())
    assert origin.put_into(made.model, CLASSES) == 3
    np.testing.assert_array_equal(made.model.get_layer("conv10").kernel, origin.arrays["conv10", "kernel"])


@pytest.mark.parametrize(
    ("theirs", "outputs"),
    [
        (("moon", "star", "tree", "ball"), {0: 3, 2: 1}),  # some, in another order
        (("star", "ball", "house"), {0: 1, 1: 2, 2: 0}),  # as many, in another order
        (("0", "1", "2"), {0: 0, 1: 1, 2: 2}),  # as many, of unknown names
        (("cat", "dog", "bird"), {}),  # as many, and others
        (("cat", "dog", "Star "), {2: 2}),
        (("moon", "tree"), {}),
    ],
)
def test_outputs_of_classes_that_both_know_are_taken_over(theirs, outputs, shard_set, tmp_path):
    origin = finetune.load(write_model(tmp_path / "x.keras", Network(len(theirs), "v1.1", image_size=32), theirs))
    made = Run(shard_set, recipe_for(origin), strategy.create("one"), tmp_path, origin=origin.to_dict())
    fresh = np.array(made.model.get_layer("conv10").kernel)
    assert origin.put_into(made.model, shard_set.classes) == len(outputs)
    for here in range(3):
        expected = origin.arrays["conv10", "kernel"][..., outputs[here]] if here in outputs else fresh[..., here]
        np.testing.assert_array_equal(made.model.get_layer("conv10").kernel[..., here], expected)


IMAGENET = tuple(labels.imagenet())


@pytest.mark.parametrize(
    ("theirs", "ours", "outputs", "how"),
    [
        (("cat", "dog"), ("moon", "sun"), {}, "the weights have other classes: cat, dog"),
        (tuple("abcdef"), tuple("uvwxyz"), {}, "the weights have other classes: a, b, c, d, e, ..."),
        (("cat", "dog"), ("dog", "cat"), {0: 1, 1: 0}, ""),
        (("cat", "dog", "cow"), ("owl", "cow"), {1: 2}, ""),
        (None, ("cat", "dog"), {0: 0, 1: 1}, "by their order, since the weights do not name the classes"),
        (("0", "1"), ("cat", "dog"), {0: 0, 1: 1}, "by their order, since the weights do not name the classes"),
        (("cat", "dog"), ("0", "1"), {0: 0, 1: 1}, "by their order, since the data does not name the classes"),
        (("cat", "dog"), ("1", "2"), {0: 0, 1: 1}, "by their order, since the data does not name the classes"),
        (("cat", "dog"), ("000", "001"), {0: 0, 1: 1}, "by their order, since the data does not name the classes"),
        (("cat", "dog", "cow"), ("0", "1"), {}, "the data does not name the classes"),
        (("0", "1", "2"), ("cat", "dog"), {}, "the weights do not name the classes"),
        # Numbers on both sides: what both have is the same class, unless there are as many.
        (("0", "1", "2"), ("0", "1"), {0: 0, 1: 1}, "the same numbers: 0, 1"),
        (tuple("0123456789"), tuple("01234"), {each: each for each in range(5)}, "the same numbers: 0, 1, 2, 3, 4"),
        (tuple("01234"), tuple("0123456789"), {each: each for each in range(5)}, "the same numbers: 0, 1, 2, 3, 4"),
        (("0", "1", "2"), ("1", "2", "3", "4"), {0: 1, 1: 2}, "the same numbers: 1, 2"),
        (("0", "1", "2", "3"), ("3", "1"), {0: 3, 1: 1}, "the same numbers: 3, 1"),
        (("0", "1", "2"), ("0", "2", "7"), {0: 0, 1: 2}, "the same numbers: 0, 2"),
        (None, tuple("0123456"), {0: 0, 1: 1}, "the same numbers: 0, 1"),
        (("0", "1", "2"), ("000", "001"), {0: 0, 1: 1}, "by their order, since data and weights do not name"),
        (("0", "1", "2"), ("1", "2", "3"), {0: 0, 1: 1, 2: 2}, "by their order, since data and weights do not name"),
        (("7", "99"), ("3", "99"), {1: 1}, "the same numbers: 99"),  # codes, not numbers from 0 on
        # Sorted as text, as folders are.
        (
            tuple(map(str, range(11))),
            tuple(sorted(map(str, range(11)))),
            {0: 0, 1: 1, 2: 10, **{number + 1: number for number in range(2, 10)}},
            "by their order, since data and weights do not name the classes",
        ),
        (IMAGENET, ("tench", "golf_ball", "Chain Saw"), {0: 0, 1: 574, 2: 491}, ""),
        (("tench", "golf ball"), ("n03445777", "n01440764"), {0: 1, 1: 0}, ""),
        (
            IMAGENET,
            tuple(map(str, range(1000))),
            {output: output for output in range(1000)},
            "by their order, since the",
        ),
        (("a-b", "a b", "c"), ("A_B", "C"), {1: 2}, ""),  # two of the weights read alike
        (("tench", "owl"), ("n01440764", "tench"), {1: 0}, ""),  # no output for two
    ],
)
def test_conv10_goes_by_the_names_of_the_classes(theirs, ours, outputs, how):
    count = len(theirs) if theirs else 2
    card = Card(theirs, Preprocessing(32, 32))
    origin = finetune.Origin(Path("x"), Network(count, image_size=32), MEANS, MEANS, card, {})
    found, said = origin.known_outputs(ours)
    assert found == outputs
    assert said.startswith(how) and bool(said) == bool(how)


def as_keras(folder: Path, classes: tuple[str, ...]) -> Path:
    return write_model(folder / "x.keras", Network(len(classes), "v1.1", image_size=32), classes)


def as_run(folder: Path, classes: tuple[str, ...]) -> Path:
    config = {"recipe": recipes.FINETUNE.to_dict(), "classes": classes, "channel_means": [0, 0, 0], "data": "x"}
    files.write_json(folder / "run" / "config.json", {**config, "init_weights": None, "teacher": None})
    write_model(folder / "run" / "best.keras", Network(len(classes), "v1.1", image_size=32), classes)
    return folder / "run"


def as_sqz(folder: Path, classes: tuple[str, ...]) -> Path:
    trained, card = keras_file.load(as_keras(folder, classes))
    stored = convert.of_keras(trained, card)
    integers = {
        name: encoder.Integers(np.round(kernel * 100).astype(np.int32), np.float32(0.01))
        for name, (kernel, _) in stored.layers.items()
    }
    (folder / "x.sqz").write_bytes(encoder.encode(stored, integers))
    return folder / "x.sqz"


@pytest.mark.parametrize("write", [as_keras, as_run, as_sqz])
def test_a_network_of_as_many_other_classes_starts_conv10_anew_and_says_so(write, shard_set, tmp_path, capsys):
    origin = finetune.load(write(tmp_path, ("cat", "dog", "bird")))
    made = Run(shard_set, recipe_for(origin), strategy.create("one"), tmp_path / "new", origin=origin.to_dict())
    fresh = np.array(made.model.get_layer("conv10").kernel)
    start.load_initial_weights(origin, made)
    np.testing.assert_array_equal(made.model.get_layer("conv10").kernel, fresh)
    assert np.array_equal(made.model.get_layer("fire9_expand3x3").kernel, origin.arrays["fire9_expand3x3", "kernel"])
    printed = capsys.readouterr().err
    assert (
        "conv10 covers 0 of 3 classes; 3 start from random weights (the weights have other classes: cat, dog, bird)"
        in printed
    )


def test_weights_of_another_network_are_refused(imported, shard_set, tmp_path):
    origin = finetune.load(imported)
    recipe = recipe_for(origin, bypass="complex")
    made = Run(shard_set, recipe, strategy.create("one"), tmp_path, origin=origin.to_dict())
    with pytest.raises(InputError, match=r"does not fit: fire2_bypass1x1/kernel is \(1, 1, 64, 128\) in this network"):
        origin.put_into(made.model, shard_set.classes)


def test_an_activation_may_be_exchanged(imported, shard_set, tmp_path):
    variables = train_from(imported, shard_set, tmp_path / "run", activation="elu")
    assert "conv1/kernel" in variables
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["activation"] == "elu"


@pytest.mark.slow
def test_frozen_modules_keep_every_bit_and_the_others_move(imported, shard_set, tmp_path):
    before = {f"{layer}/{name}": array for (layer, name), array in finetune.load(imported).arrays.items()}
    after = train_from(imported, shard_set, tmp_path / "run", freeze="until:fire8")
    moved = {
        name.split("_")[0].split("/")[0] for name, array in after.items() if not np.array_equal(array, before.get(name))
    }
    assert moved - {"dropout"} == {"fire8", "fire9", "conv10"}
    card = inference.load(tmp_path / "run").card
    assert (card.pretrained_on, card.weights, card.classes) == ("ImageNet", WEIGHTS, CLASSES)


def test_frozen_batch_norms_keep_their_statistics(trained_run, shard_set, tmp_path):
    before = {f"{layer}/{name}": array for (layer, name), array in finetune.load(trained_run).arrays.items()}
    after = train_from(trained_run, shard_set, tmp_path / "run", freeze="until:conv10")
    moved = {name for name, array in after.items() if not np.array_equal(array, before[name])}
    assert {name.split("/")[0] for name in moved} - {"dropout"} == {"conv10", "conv10_bn"}


def test_each_module_learns_at_its_own_rate(imported, shard_set, tmp_path):
    """One step of plain SGD at a layer_decay of 1/2 moves a module by 1/2 to the power of its distance from conv10."""
    origin = finetune.load(imported)
    moved = {}
    for layer_decay in (1.0, 0.5):
        recipe = recipe_for(origin, layer_decay=layer_decay, dropout=0.0).replace(optimizer="sgd", total_steps=1)
        made = Run(shard_set, recipe, strategy.create("one"), tmp_path, origin=origin.to_dict())
        origin.put_into(made.model, shard_set.classes)
        made.model.get_layer("conv10").kernel.assign(tf.ones((1, 1, 512, 3)) * 0.01)
        before = checkpoint.read(made.variables)
        made.schedule = made.schedule.__class__(recipe, made.schedule.records, 1)
        batches = iter(pipeline.training_batches(shard_set, made.schedule, replicas=1))
        made.train_steps(batches, tf.constant([0.001]))
        after = checkpoint.read(made.variables)
        moved[layer_decay] = {name: after[name] - before[name] for name in after if name.endswith("kernel")}
    for name, change in moved[1.0].items():
        if not name.startswith("model/"):
            continue
        module = architecture.MODULES.index(finetune.module_of(name.split("/")[1]))
        expected = change * 0.5 ** (len(architecture.MODULES) - 1 - module)
        np.testing.assert_allclose(moved[0.5][name], expected, rtol=1e-2, atol=2e-8, err_msg=name)
    assert np.abs(moved[1.0]["model/conv10/kernel"]).max() > 1e-6


@pytest.mark.slow
def test_a_resumed_run_still_knows_where_its_weights_come_from(imported, shard_set, tmp_path):
    run_dir = tmp_path / "run"
    train_from(imported, shard_set, run_dir)
    recipe = recipes.load(str(run_dir / "config.json"))
    start.train(shard_set, recipe, strategy_name="one", replicas=None, run_dir=run_dir, resume=True)
    trained, card = inference.load_keras(run_dir)
    assert model.describe(trained, 32)[1] == MEANS and card.pretrained_on == "ImageNet"


@pytest.mark.slow
def test_the_same_command_with_resume_added_will_do_here_too(imported, shard_set, tmp_path):
    run_dir = tmp_path / "run"
    flags = ["--recipe=demo", "--image_size=32", "--epochs=1", "--global_batch_size=8", "--learning_rate=0.001"]
    flags += [f"--data={shard_set.folder}", f"--run_dir={run_dir}", f"--init_weights={imported}", "--strategy=one"]
    assert train.main(flags) == 0
    assert train.main([*flags, "--resume"]) == 0
    with pytest.raises(InputError, match=r"was trained with --init_weights=.*weights.keras, not other.keras"):
        train.main([*flags[:-2], "--init_weights=other.keras", "--resume"])


@pytest.mark.slow
def test_replicas_may_start_from_weights_and_learn_from_a_teacher(imported, trained_run, shard_set, tmp_path):
    """In a process of its own: its devices are set up before anything is loaded, as on any machine."""
    flags = ["--recipe=demo", "--image_size=32", "--epochs=1", "--global_batch_size=8", "--learning_rate=0.001"]
    flags += [f"--data={shard_set.folder}", f"--run_dir={tmp_path / 'run'}", "--strategy=mirrored", "--replicas=2"]
    flags += [f"--init_weights={imported}", f"--teacher={trained_run}"]
    command = [sys.executable, "-m", "sqznet.train", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 0, done.stderr
    assert "conv10 covers 0 of 3 classes; 3 start from random weights" in done.stderr and "2 replicas" in done.stderr


@pytest.mark.slow
def test_a_scaled_first_layer_survives_fine_tuning_and_export(shard_set, tmp_path):
    """A torchvision network divides its pixels; folded into conv1 they would change how fast conv1 learns."""
    network = Network(3, "v1.1", image_size=32)
    deviations = (58.395, 57.12, 57.375)
    card = Card(CLASSES, Preprocessing(32, 32))
    keras_file.save(
        model.build(network, channel_means=MEANS, channel_deviations=deviations), card, tmp_path / "x.keras"
    )
    train_from(tmp_path / "x.keras", shard_set, tmp_path / "run")
    trained, _ = inference.load_keras(tmp_path / "run")
    _, means, kept = model.describe(trained, 32)
    assert means == pytest.approx(MEANS) and kept == pytest.approx(deviations)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    folded = fold.inference_model(trained, 32)(images.astype(np.float32)).numpy()
    np.testing.assert_allclose(folded, inference.KerasRuntime(trained, 32)(images), atol=1e-5)


def test_freezing_random_weights_is_refused(shard_set, tmp_path):
    with pytest.raises(InputError, match="freeze=until:fire8: this recipe needs trained weights: give"):
        train.main([f"--data={shard_set.folder}", "--freeze=until:fire8", "--recipe=demo"])
    with pytest.raises(InputError, match="freeze is 'fire8'; it must be one of until:fire2, "):
        train.main([f"--data={shard_set.folder}", "--freeze=fire8", "--recipe=demo"])
