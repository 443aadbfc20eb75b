"""The public Python API: what a notebook or a script calls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import sqznet
from sqznet import api
from sqznet.core.errors import Stopped
from sqznet.predict import inference
from sqznet.train import start
from tests.conftest import CLASSES, SHARED, TINY

WEIGHTS = SHARED / "weights" / "squeezenet_v1.1_caffe_fp16.npz"
CARD = {"classes": CLASSES, "recipe": TINY}


@pytest.fixture(scope="module")
def classifier(bundle) -> sqznet.Classifier:
    return sqznet.load(str(bundle / "model.tflite"))


@pytest.fixture(scope="module")
def photo(photographs) -> Path:
    return photographs / "val" / "ball" / "000.jpg"


def in_python(code: str) -> str:
    """What a new Python prints that runs `code` in another folder, without TensorFlow's messages."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_sqznet_imports_nothing_heavy():
    heavy = "tensorflow", "keras", "numpy", "rich", "PIL", "argparse"
    assert in_python(f"import sys, sqznet; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_all_public_names_exist_and_are_listed():
    for name in sqznet.__all__:
        assert getattr(sqznet, name) is not None and name in dir(sqznet)
    with pytest.raises(AttributeError, match="module 'sqznet' has no attribute 'lode'"):
        sqznet.lode  # noqa: B018


def test_importing_sqznet_first_chooses_onednn_and_keeps_the_users_choice():
    code = "import os; {}import sqznet; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    assert in_python(code.format("os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'; ")) == "0"


def test_a_tflite_or_onnx_file_is_loaded_without_tensorflow(bundle, photo):
    for name in ("model.tflite", "model.onnx"):
        code = (
            f"import sys, sqznet; c = sqznet.load({str(bundle / name)!r}); c.predict({str(photo)!r}); "
            "print('tensorflow' in sys.modules)"
        )
        assert in_python(code) == "False"


def test_predict_takes_every_form_of_a_photograph_and_answers_alike(classifier, photo):
    pixels = np.asarray(Image.open(photo))
    answers = [classifier.predict(each) for each in (str(photo), photo, Image.open(photo), pixels)]
    for ranking in answers:
        assert [each.index for each in ranking] == [each.index for each in answers[0]]
        assert ranking[0].probability == pytest.approx(answers[0][0].probability, abs=1e-6)
    assert sorted(each.label for each in answers[0]) == sorted(CLASSES)
    assert sum(each.probability for each in answers[0]) == pytest.approx(1, abs=1e-3)


def test_predict_answers_several_photographs_in_their_order(classifier, photo, photographs):
    alone = classifier.predict(photo, top=1)
    pixels = np.asarray(Image.open(photo))
    for several in ([photo, photo], np.stack([pixels, pixels]), (each for each in (photo, pixels))):
        assert classifier.predict(several, top=1) == [alone, alone]
    folder = classifier.predict(photographs / "val" / "ball", top=1)
    assert folder.paths == sorted((photographs / "val" / "ball").iterdir())
    assert folder[0] == alone and not folder.failures


def test_a_photograph_that_cannot_be_read_is_an_error_or_a_failure_of_the_folder(classifier, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(photo.read_bytes()[:300])
    (tmp_path / "good.jpg").write_bytes(photo.read_bytes())
    with pytest.raises(sqznet.InputError, match=r"bad\.jpg: broken"):
        classifier.predict([tmp_path / "good.jpg", tmp_path / "bad.jpg"])
    found = classifier.predict(tmp_path)
    assert found.paths == [tmp_path / "good.jpg"] and list(found.failures) == [str(tmp_path / "bad.jpg")]


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats_are_refused_with_the_conversion(classifier, scale):
    image = np.random.default_rng(0).random((40, 50, 3)) * scale
    expected = "np.rint(255 * pixels)" if scale == 1 else "np.rint(pixels)"
    with pytest.raises(sqznet.InputError) as refused:
        classifier.predict(image)
    assert f"found float64 from {image.min():g} to {image.max():g}: give {expected}" in str(refused.value)
    with pytest.raises(sqznet.InputError, match="expected pixels of dtype uint8, 0 to 255, and found float32"):
        classifier.probabilities(np.zeros((1, 32, 32, 3), np.float32))


def test_probabilities_takes_prepared_images_of_the_right_size_only(classifier, shard_set):
    images, _ = next(iter(sqznet.dataset(shard_set.folder, "val", TINY)))
    assert classifier.probabilities(images).shape == (len(images), 3)
    with pytest.raises(
        sqznet.InputError, match=r"expected images of shape \(n, 32, 32, 3\), and found \(1, 40, 40, 3\)"
    ):
        classifier.probabilities(np.zeros((1, 40, 40, 3), np.uint8))


def test_evaluate_returns_what_the_command_reports(trained_run, shard_set):
    found = sqznet.load(trained_run).evaluate(shard_set.folder, split="val")
    assert found.n == 33 and found.split == "val"
    assert found.to_dict()["top1"] == found.top1 == pytest.approx(sum(found.by_class.values()) / 3)
    assert "rank-1 (top-1)" in str(found) and f"{100 * found.top1:.2f} %" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["n"] == 33
    assert "<td>33</td>" in found._repr_html_()
    assert sqznet.load(trained_run).evaluate().split == "test"


def test_export_writes_the_chosen_files(trained_run, shard_set, tmp_path):
    written = sqznet.load(trained_run).export(
        tmp_path / "out", formats=["tflite", "onnx"], data=shard_set.folder, max_drop=0.2, latency_runs=0
    )
    assert [path.name for path in written.files] == ["model.tflite", "model.onnx"]
    assert all(path.is_file() for path in written.files)
    assert sorted(written.manifest["files"]) == ["model.onnx", "model.tflite"]
    assert "model.tflite" in str(written) and "model.tflite" in written._repr_html_()
    written.check()


def test_an_exported_file_has_no_keras_model_to_export(classifier, tmp_path):
    with pytest.raises(sqznet.InputError, match="is an exported file and has no Keras model: load the run folder"):
        classifier.export(tmp_path / "out")


def test_squeezenet_is_a_keras_model_with_or_without_its_head():
    whole = sqznet.SqueezeNet("v1.1", weights=None, classes=7)
    assert isinstance(whole, keras.Model) and whole.output_shape == (None, 7)
    probabilities = whole(np.zeros((2, 64, 64, 3), np.uint8)).numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert sqznet.SqueezeNet("v1.0", weights=None, include_top=False).output_shape == (None, None, None, 512)
    assert sqznet.SqueezeNet(weights=None, classifier_activation=None).layers[-1].name == "logits"
    with pytest.raises(sqznet.InputError, match=r"no SqueezeNet 'v2'; there are v1\.0, v1\.1"):
        sqznet.SqueezeNet("v2")


def test_squeezenet_takes_the_weights_of_a_run_and_a_new_head(trained_run):
    trained, _ = inference.load_keras(trained_run)
    same = sqznet.SqueezeNet("v1.1", weights=trained_run, classes=3, classifier_activation=None)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(same(images), trained(images), atol=1e-5)
    other = sqznet.SqueezeNet("v1.1", weights=trained_run, classes=5)
    assert other.output_shape == (None, 5)
    np.testing.assert_array_equal(other.get_layer("conv1").kernel, trained.get_layer("conv1").kernel)
    with pytest.raises(sqznet.InputError, match=r"is a SqueezeNet v1\.1, not v1\.0: give version='v1\.1'"):
        sqznet.SqueezeNet("v1.0", weights=trained_run)


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"needs {WEIGHTS}, which is not part of the project")
def test_squeezenet_with_imagenet_weights_computes_what_load_does(photo):
    loaded = sqznet.load(WEIGHTS)
    assert loaded.classes[0] == "tench" and len(loaded.classes) == 1000
    pixels = loaded._prepared(photo)[None]
    built = sqznet.SqueezeNet("v1.1", weights=WEIGHTS)
    np.testing.assert_allclose(built(pixels), loaded.probabilities(pixels), atol=1e-6)


@pytest.mark.slow
def test_a_network_that_keras_has_trained_is_evaluated_saved_and_exported(shard_set, tmp_path):
    network = sqznet.SqueezeNet("v1.1", weights=None, classes=3, image_size=32)
    network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = network.fit(
        sqznet.dataset(shard_set.folder, recipe=TINY),
        validation_data=sqznet.dataset(shard_set.folder, "val", TINY),
        verbose=0,
    )
    network.save(tmp_path / "own.keras")
    with pytest.raises(
        sqznet.InputError, match=r"sqznet\.Classifier\.from_keras\('.*own\.keras', classes=\[\.\.\.\]\)"
    ):
        sqznet.load(tmp_path / "own.keras")
    made = sqznet.Classifier.from_keras(tmp_path / "own.keras", data=shard_set.folder, **CARD)
    # Keras counts no padding: its accuracy is that of the 33 records.
    assert made.evaluate(split="val").top1 == pytest.approx(history.history["val_accuracy"][0], abs=1e-6)
    made.save(tmp_path / "with card.keras")
    assert sqznet.load(tmp_path / "with card.keras").classes == CLASSES
    written = made.export(tmp_path / "out", formats="tflite", max_drop=1.0, latency_runs=0)
    assert sqznet.load(written.files[0]).classes == CLASSES


def test_a_network_for_another_image_size_gets_other_pools(capsys):
    built = {size: sqznet.SqueezeNet(weights=None, classes=3, image_size=size) for size in (32, 227)}
    for size, network in built.items():
        made = sqznet.Classifier.from_keras(network, **CARD)
        assert ("built for another image size than 32 pixels" in capsys.readouterr().err) == (size == 227)
        assert made.keras_model.get_layer("conv1_pool").padding == built[32].get_layer("conv1_pool").padding


def test_a_head_that_is_not_squeezenets_is_refused():
    body = sqznet.SqueezeNet(weights=None, include_top=False)
    other = keras.Model(body.input, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(body.output)))
    with pytest.raises(sqznet.InputError, match="is not a SqueezeNet trained by this package: it lacks 'conv10'"):
        sqznet.Classifier.from_keras(other, **CARD)
    with pytest.raises(sqznet.InputError, match="the model has 4 outputs, and 3 classes are given"):
        sqznet.Classifier.from_keras(sqznet.SqueezeNet(weights=None, classes=4), **CARD)


@pytest.mark.slow
def test_fit_trains_calls_callbacks_and_returns_the_best_network(shard_set, tmp_path):
    calls = []

    class Recorder(sqznet.Callback):
        def on_train_begin(self, run):
            calls.append(("begin", run.folder))

        def on_epoch_end(self, run, line):
            calls.append((line["epoch"], len(run.history)))

        def on_train_end(self, run):
            calls.append("end")

    log = sqznet.CSVLogger(tmp_path / "log.csv")
    before = np.random.get_state()[1].tolist()
    run = sqznet.fit(shard_set.folder, TINY, epochs=2, folder=tmp_path / "run", callbacks=[Recorder(), log])
    assert calls == [("begin", tmp_path / "run"), (1, 1), (2, 2), "end"]
    assert [line["epoch"] for line in run.history] == [1, 2] and run.recipe.epochs == 2
    assert run.best.evaluate(split="val").n == 33
    assert (tmp_path / "log.csv").read_text().startswith("epoch,image_size,learning_rate,train_loss,")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["command"] == []
    assert "data:image/png;base64," in run._repr_html_()
    assert np.random.get_state()[1].tolist() == before, "the caller's random generator was changed"


@pytest.mark.slow
def test_an_interrupted_fit_is_saved_and_resumed(shard_set, tmp_path):
    class StopsAfterOne(sqznet.Callback):
        def on_epoch_end(self, run, line):
            run.stop()

    with pytest.raises(KeyboardInterrupt, match="the state is saved in"):
        sqznet.fit(shard_set.folder, TINY, folder=tmp_path / "run", callbacks=[StopsAfterOne()])
    run = sqznet.fit(folder=tmp_path / "run", resume=True)
    assert [line["epoch"] for line in run.history] == [1, 2, 3]


def test_fit_names_a_field_that_does_not_exist(shard_set):
    with pytest.raises(
        sqznet.InputError, match="sqznet.fit: a recipe has no field lerning_rate; is learning_rate meant"
    ):
        sqznet.fit(shard_set.folder, TINY, lerning_rate=0.1)


def test_fit_with_the_recipe_finetune_starts_from_published_weights(shard_set, monkeypatch, tmp_path):
    asked = []

    def train_job(job, **_options):
        asked.append(job)
        raise Stopped(2)

    monkeypatch.setattr(start, "train_job", train_job)
    with pytest.raises(KeyboardInterrupt):
        sqznet.fit(shard_set.folder, "finetune", folder=tmp_path / "run", epochs=4)
    assert asked[0].init_weights == Path("squeezenet-v1.1") and asked[0].recipe.epochs == 4


def test_build_shards_takes_a_folder_and_counts_its_records(photographs, shard_set, tmp_path):
    built = sqznet.build_shards(str(photographs), tmp_path / "set", shard_records=16, workers=1)
    assert built.classes == CLASSES and built.counts == {"train": 120, "val": 33, "test": 27}
    assert "<td>120</td>" in built._repr_html_()


@pytest.mark.slow
def test_build_shards_in_a_script_without_a_main_guard_runs_the_script_once(photographs, tmp_path):
    script = tmp_path / "script.py"
    call = f"sqznet.build_shards({str(photographs)!r}, 'set', shard_records=16, workers=2)"
    script.write_text(f"print('started')\nimport sqznet\n{call}")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 1


def test_set_verbose_turns_progress_off(classifier, photographs, capsys):
    folder = photographs / "train" / "ball"
    try:
        sqznet.set_verbose(False)
        classifier.predict(folder)
        assert capsys.readouterr() == ("", "")
    finally:
        sqznet.set_verbose(True)
    classifier.predict(folder)
    assert "predicting" in capsys.readouterr().err


def test_the_public_names_of_the_api_module_are_those_of_the_package():
    own = {name for name, value in vars(api).items() if getattr(value, "__module__", None) == api.__name__}
    assert {name for name in own if not name.startswith("_")} <= set(sqznet.__all__)
