"""Every gate refuses a faulty file, and the refused export leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.export import __main__ as command
from sqznet.export import audit, check, previous, tflite, variants, verify
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, fold, keras_file, model
from sqznet.network.quantization import int8
from sqznet.predict import inference
from tests.conftest import export


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "over-an-older-export"])
def test_a_file_a_byte_too_large_leaves_no_folder(bundle, trained_run, shard_set, tmp_path, older):
    out = tmp_path / "out"
    if older:
        shutil.copytree(bundle, out)
    size = files.size_of(bundle / "model.onnx")
    message = rf"model.onnx is {size:,} bytes .*, over the budget of {size - 1:,} bytes .*float16"
    before = files.sha256_below(out) if older else None
    with pytest.raises(InputError, match=message) as refused:
        export(trained_run, shard_set, out, files="onnx", gate={"budget": size - 1}, replace=older)
    assert list(tmp_path.iterdir()) == ([out] if older else [])
    if older:
        check.check(out)
        assert files.sha256_below(out) == before
        assert re.search(rf"Nothing was written; the bundle of \d{{4}}-.* in {out} is unchanged$", str(refused.value))
    else:
        assert str(refused.value).endswith(f"Nothing was written, and {out} does not exist")


def test_a_file_of_just_the_budget_passes(bundle, trained_run, shard_set, tmp_path):
    size = files.size_of(bundle / "model.onnx")
    export(trained_run, shard_set, tmp_path / "out", files="onnx", gate={"budget": size})
    assert (tmp_path / "out" / "model.onnx").is_file()


def broken(model, change):
    """The inference model with its last biases changed, as a faulty conversion would."""
    layer = model.get_layer("conv10")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, change(bias)])
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda bias: bias + np.array([0.5, 0, 0]),
            r"not equal to the Keras model: the largest difference .* and 1e-04 is allowed",
        ),
        (lambda bias: bias + np.inf, "puts out values that are not numbers"),
        (lambda bias: bias * np.nan, "puts out values that are not numbers"),
    ],
    ids=["wrong", "infinite", "nan"],
)
def test_a_file_that_is_not_equal_is_not_written(trained_run, shard_set, tmp_path, monkeypatch, change, message):
    real = fold.inference_model
    monkeypatch.setattr(fold, "inference_model", lambda *args: broken(real(*args), change))
    with pytest.raises(InputError, match=message):
        export(trained_run, shard_set, tmp_path / "out", files="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def always_the_rarest(trained_run, shard_set):
    """A change of the last biases that makes the network always predict the class that it predicts least."""
    batches = verify.answers(inference.load(trained_run), shard_set, "val", None, "asking")
    answers = np.concatenate([probabilities.argmax(axis=1) for _, _, probabilities in batches])
    rarest = np.bincount(answers, minlength=3).argmin()
    return lambda bias: bias + 1e4 * (np.arange(3) == rarest)


def test_an_int8_file_that_always_predicts_one_class_is_not_written(
    trained_run, shard_set, tmp_path, monkeypatch, always_the_rarest
):
    import keras

    def one_answer(source, path):
        model = keras.models.clone_model(source.model)
        model.set_weights(source.model.get_weights())
        broken(model, always_the_rarest)
        tflite.write_int8(int8.quantize(model, source.calibration), path)

    (real,) = variants.choose(["tflite"], ["int8"])
    monkeypatch.setattr(variants, "VARIANTS", (variants.Variant(real.file_name, "tflite", "int8", one_answer),))
    message = r"agrees with the Keras model on only \d.* % of 33 records .* 90.00 % is required"
    with pytest.raises(InputError, match=message):
        export(trained_run, shard_set, tmp_path / "out", files="tflite", quantize="int8")
    assert list(tmp_path.iterdir()) == []


def test_too_much_accuracy_lost_is_refused_with_both_numbers(
    trained_run, shard_set, tmp_path, monkeypatch, always_the_rarest
):
    monkeypatch.setattr(verify, "CONVERSION_TOLERANCES", dict.fromkeys(verify.CONVERSION_TOLERANCES, 1.0))
    measured = verify.answers

    def always_right(*args):
        """The trained network's own answers as the labels, so that there is accuracy to lose."""
        for images, _, probabilities in measured(*args):
            yield images, probabilities.argmax(axis=1), probabilities

    monkeypatch.setattr(verify, "answers", always_right)
    real = fold.inference_model
    monkeypatch.setattr(fold, "inference_model", lambda *args: broken(real(*args), always_the_rarest))
    message = r"loses \d+\.\d+ points of top-1 \(95 % interval .*\) on 33 records .* --max_drop=1 is allowed"
    with pytest.raises(InputError, match=message):
        export(trained_run, shard_set, tmp_path / "out", files="onnx", gate={"max_drop": 0.01})


def test_bytes_that_change_from_one_conversion_to_the_next_are_refused(trained_run, shard_set, tmp_path, monkeypatch):
    (real,) = variants.choose(["onnx"], ["none"])
    counter = iter(range(9))

    def restless(source, path):
        import onnx

        real.write(source, path)
        proto = onnx.load(str(path))
        proto.doc_string = str(next(counter))
        path.write_bytes(proto.SerializeToString())

    monkeypatch.setattr(variants, "VARIANTS", (variants.Variant(real.file_name, "onnx", "none", restless),))
    with pytest.raises(InputError, match="has other bytes after each conversion"):
        export(trained_run, shard_set, tmp_path / "out", files="onnx")


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.mark.parametrize("name", ["model_int8.tflite", "model.onnx", "savedmodel/saved_model.pb"])
def test_a_flipped_byte_is_found(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=r"does not have the sha256 of manifest.json: it was changed or damaged"):
        check.check(copy)


def test_a_damaged_file_is_not_evaluated_either(copy):
    with (copy / "model.tflite").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"model.tflite does not have the sha256 that .*manifest.json gives"):
        inference.load(copy / "model.tflite")


def test_a_wrong_label_order_is_found(copy):
    lines = (copy / "labels.txt").read_text().split("\n")
    (copy / "labels.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(InputError, match=r"labels.txt, line 1: 'house', and class 0 of manifest.json is 'ball'"):
        check.check(copy)


def test_labels_inside_a_file_in_another_order_are_found(copy):
    content = (copy / "model.tflite").read_bytes()
    assert content.count(b"ball\nhouse\n") == 1
    labels, swapped = b"ball\nhouse\nstar\n", b"house\nball\nstar\n"
    content = content.replace(labels, swapped)
    # With a new checksum, since the archive would be damaged otherwise.
    content = content.replace(*(zlib.crc32(each).to_bytes(4, "little") for each in (labels, swapped)))
    (copy / "model.tflite").write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["model.tflite"]["sha256"] = files.sha256_of(copy / "model.tflite")
    files.write_json(copy / "manifest.json", manifest)
    with pytest.raises(InputError, match=r"the labels inside .*model.tflite are not those of labels.txt"):
        check.check(copy)


def test_a_model_that_orders_classes_otherwise_than_the_data_is_refused(trained_run, shard_set, tmp_path):
    trained, card = inference.load_keras(trained_run)
    turned = keras_file.Card(card.classes[::-1], card.preprocessing, card.data)
    keras_file.save(trained, turned, tmp_path / "turned.keras")
    with pytest.raises(InputError, match="order their classes differently: class 0 is 'star' in the model"):
        export(tmp_path / "turned.keras", shard_set, tmp_path / "out", files="onnx")
    assert not (tmp_path / "out").exists()


def test_an_output_that_differs_from_its_golden_vector_is_found(copy):
    path = copy / "golden" / "expected" / "model.onnx.bin"
    path.write_bytes(np.zeros(files.size_of(path) // 4, "<f4").tobytes())
    with pytest.raises(InputError, match=r"model.onnx fails its golden self-test: .*, and 1e-03 is allowed"):
        check.check(copy)


def converted(function, size: int, path: Path, *, flex: bool = False) -> Path:
    import tensorflow as tf

    signature = tf.TensorSpec([1, size, size, 3], tf.float32, name="image")
    concrete = tf.function(function, input_signature=[signature]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())
    return path


def test_a_flex_operator_is_refused(tmp_path):
    import tensorflow as tf

    path = converted(lambda image: tf.linalg.det(image[:, :, :3, :]), 8, tmp_path / "flex.tflite", flex=True)
    with pytest.raises(InputError, match="operators that not every runtime has: .*custom FlexMatrixDeterminant"):
        audit.check(path, "none")


def test_an_empty_graph_is_refused(tmp_path):
    path = converted(lambda image: image + 1.0, 8, tmp_path / "empty.tflite")
    with pytest.raises(InputError, match="is not a whole SqueezeNet: it has 0 convolutions, and 26 were expected"):
        audit.check(path, "none")


def test_a_file_of_another_type_than_claimed_is_refused(bundle):
    for name, claim, message in (
        ("model.tflite", "int8", "weights .* are FLOAT32, and INT8 was expected"),
        ("model_dynamic.tflite", "int8", r"is not all int8: \d+ of \d+ tensors are float"),
        ("model_float16.tflite", "none", "are FLOAT16, and FLOAT32 was expected"),
        ("model.onnx", "int8", "weights .* are FLOAT, and UINT8 was expected"),
        ("model_int8.onnx", "float16", "are UINT8, and FLOAT16 was expected"),
    ):
        with pytest.raises(InputError, match=message):
            audit.check(bundle / name, claim)


def test_a_float_layer_in_an_int8_onnx_file_is_found(bundle, tmp_path):
    import onnx

    proto = onnx.load(str(bundle / "model_int8.onnx"))
    for node in proto.graph.node:
        if node.op_type == "Relu" and node.name.startswith("fire5_squeeze"):
            node.op_type = "Elu"
    onnx.save(proto, str(tmp_path / "elu.onnx"))
    with pytest.raises(InputError, match=r"is not all int8: .*fire5_squeeze.*"):
        audit.check(tmp_path / "elu.onnx", "int8")


def test_operators_of_another_domain_are_refused(bundle, tmp_path):
    import onnx

    proto = onnx.load(str(bundle / "model.onnx"))
    proto.graph.node[3].domain = "com.example"
    onnx.save(proto, str(tmp_path / "foreign.onnx"))
    with pytest.raises(InputError, match="operators outside the ONNX standard: com.example"):
        audit.check(tmp_path / "foreign.onnx", "none")


@pytest.mark.parametrize(
    "place",
    [
        *("kotlin/Main.kt", "swift/deeper/ModelContract.swift", "savedmodel.txt", "model.onnx.bak"),
        *("golden/notes.txt", "golden/holiday.jpg", "golden/8.png", "golden/expected/mine.bin", "golden/deeper/0.png"),
        *("savedmodel/mine.bin", "savedmodel/variables/mine.index"),
        *("evaluation-notes.txt", "confusion-val.csv", "evaluation-val/mine.json"),
    ],
)
def test_a_bundle_with_foreign_files_is_not_replaced(bundle, trained_run, shard_set, tmp_path, place):
    out = shutil.copytree(bundle, tmp_path / "out")
    (out / place).parent.mkdir(exist_ok=True)
    (out / place).write_text("mine")
    with pytest.raises(InputError, match=rf"holds files that no export wrote: {place}. Move them away"):
        export(trained_run, shard_set, out, files="onnx")
    assert (out / place).read_text() == "mine"


def test_all_files_of_an_export_are_recognized(bundle, tmp_path):
    """So are reports of `evaluate`, and the files that a killed export left."""
    out = shutil.copytree(bundle, tmp_path / "out")
    written = [f"{kind}-val-model.onnx.png" for kind in ("confusion", "reliability", "mistakes")]
    for name in ("evaluation-val-model.onnx-as-tflite.json", *written, ".tmp-0123-report.html"):
        (out / name).write_text("")
    assert set(previous.find(out).models) == set(check.load(bundle)["files"])


def test_a_link_to_a_folder_is_a_foreign_file(bundle, tmp_path):
    out = shutil.copytree(bundle, tmp_path / "out")
    (out / "golden" / "linked").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"holds files that no export wrote: golden/linked. Move"):
        previous.find(out)


def test_a_failed_export_says_that_there_is_no_bundle(tmp_path):
    assert str(previous.find(tmp_path)) == f"nothing was written, and there is no bundle in {tmp_path}"
    missing = tmp_path / "missing"
    assert str(previous.find(missing)) == f"nothing was written, and {missing} does not exist"


def test_a_mount_point_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path.resolve())
    with pytest.raises(InputError, match=rf"mount point, which a bundle cannot replace: .* --out={tmp_path}/NAME "):
        command.main([f"--out={tmp_path}", "--model=nowhere"])


def test_only_a_bundle_is_replaced(trained_run, shard_set, tmp_path):
    """A folder with the file names of a bundle, such as the manifest of a data set, is no bundle."""
    out = tmp_path / "out"
    (out / "golden").mkdir(parents=True)
    (out / "manifest.json").write_text('{"files": ["a.csv"]}')
    (out / "a.csv").write_text("mine")
    with pytest.raises(InputError, match=r"holds files that no export wrote: a.csv, manifest.json"):
        export(trained_run, shard_set, out, files="onnx")
    with pytest.raises(InputError, match=r"holds files that no export wrote: a.csv"):
        export(trained_run, shard_set, out / "a.csv", files="onnx")
    assert (out / "a.csv").read_text() == "mine"


def test_a_mistyped_flag_leaves_the_older_bundle(bundle, trained_run, shard_set, tmp_path):
    out = shutil.copytree(bundle, tmp_path / "out")
    with pytest.raises(InputError, match="has no 'tset' split"):
        export(trained_run, shard_set, out, files="onnx", gate={"split": "tset"})
    check.check(out)


def test_the_earlier_name_of_synthetic_pictures_is_accepted():
    assert command.make_parser().parse_args(["--golden=drawings"]).golden == "synthetic"


@pytest.mark.slow
def test_a_file_for_two_images_per_run_is_verified_and_passes_its_self_test(trained_run, shard_set, tmp_path):
    export(trained_run, shard_set, tmp_path / "out", files="tflite", tflite_batch=2)
    assert inference.load(tmp_path / "out" / "model.tflite").runtime.batch == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["files"].clear(), "no model files"),
        (lambda content: content["files"].update({"..": {}}), "a file outside the folder: '..'"),
        (lambda content: content["files"]["model.onnx"].update(quantize="int3"), "quantize 'int3'"),
        (lambda content: content["files"]["model.onnx"].pop("sha256"), "KeyError: 'sha256'"),
        (lambda content: content.update(files=[]), "cannot be read"),
        (lambda content: content.update(classes=[1, 2, 3]), "classes are not names"),
        (lambda content: content.update(labels=None), "cannot be read"),
    ],
)
def test_a_manifest_of_another_form_is_refused(bundle, tmp_path, change, message):
    out = shutil.copytree(bundle, tmp_path / "out")
    content = json.loads((out / "manifest.json").read_text())
    change(content)
    (out / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(message)):
        check.check(out)


def test_a_bundle_with_a_foreign_file_is_not_replaced_even_with_replace(bundle, trained_run, shard_set, tmp_path):
    out = shutil.copytree(bundle, tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    for replace in (False, True):
        with pytest.raises(InputError, match=r"holds files that no export wrote: notes.txt. Move them away"):
            export(trained_run, shard_set, out, files="onnx", replace=replace)
    assert (out / "notes.txt").read_text() == "mine"


def test_other_files_of_the_same_model_are_kept(bundle, trained_run, shard_set, tmp_path, capsys):
    out = shutil.copytree(bundle, tmp_path / "out")
    for name in ("model.tflite", "model.onnx"):  # what evaluate leaves there goes with the model
        (out / f"evaluation-val-{name}.json").write_text("{}")
    shutil.rmtree(out / "savedmodel")
    export(trained_run, shard_set, out, files="onnx", tflite_batch=2)
    manifest, before = check.load(out), check.load(bundle)
    assert set(manifest["files"]) == set(before["files"]) - {"savedmodel"}
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == before["files"][name]["sha256"], name
    assert manifest["calibration"] == before["calibration"] is not None
    assert (out / "evaluation-val-model.tflite.json").is_file()
    report = (out / "report.html").read_text()
    assert all(name in report for name in manifest["files"])
    said = " ".join(capsys.readouterr().err.split())
    assert "kept: model.tflite, model_dynamic.tflite, model_float16.onnx" in said
    assert "; replaced: model.onnx; removed: evaluation-val-model.onnx.json" in said


def as_if(out: Path, change) -> None:
    content = json.loads((out / "manifest.json").read_text())
    change(content)
    files.write_json(out / "manifest.json", content)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content.update(model_sha256="0"), "it was exported with other weights"),
        (lambda content: content.update(sqznet="0.1.0"), "it was exported with another version of sqznet"),
        (lambda content: content["preprocessing"].update(resize="other"), "it was exported with another preprocessing"),
        (
            lambda content: [each["proof"].update(n=7) for each in content["files"].values()],
            "it was compared on other records: 7 of val",
        ),
        (
            lambda content: [each["proof"].pop("ece") for each in content["files"].values()],
            "it was exported with an earlier version of sqznet, which did not measure its calibration error",
        ),
        (lambda content: content["files"]["model.tflite"].update(sha256="0"), "it was changed or damaged"),
    ],
    ids=["weights", "version", "preprocessing", "records", "no calibration error", "damaged"],
)
def test_files_of_another_model_are_not_removed_without_replace(bundle, trained_run, shard_set, tmp_path, change, why):
    out = shutil.copytree(bundle, tmp_path / "out")
    as_if(out, change)
    before = files.sha256_below(out)
    message = rf"neither writes nor can keep: .*model.tflite.*{re.escape(why)}\). Give --replace .* is unchanged"
    with pytest.raises(InputError, match=message):
        export(trained_run, shard_set, out, files="onnx")
    assert files.sha256_below(out) == before


@pytest.mark.slow
def test_replace_removes_the_bundle_as_a_whole(bundle, trained_run, shard_set, tmp_path):
    out = shutil.copytree(bundle, tmp_path / "out")
    (out / "evaluation-val-model.tflite.json").write_text("{}")
    export(trained_run, shard_set, out, files="onnx", replace=True)
    assert {path.name for path in out.iterdir()} == {
        "model.onnx", "labels.txt", "manifest.json", "MODEL_CARD.md", "README.md", "LICENSE_WEIGHTS.txt", "report.html",
        "golden", "kotlin", "swift", "javascript", "python",
    }  # fmt: skip


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(KeyboardInterrupt(), id="ctrl-c"),
        pytest.param(OSError(28, "No space left on device"), id="full", marks=pytest.mark.slow),
    ],
)
def test_an_export_stopped_at_its_end_leaves_the_older_bundle_unchanged(
    bundle, trained_run, shard_set, tmp_path, monkeypatch, capsys, error
):
    out = shutil.copytree(bundle, tmp_path / "out")

    def stop(*_):
        raise error

    monkeypatch.setattr(check, "check", stop)
    with pytest.raises(type(error)):
        export(trained_run, shard_set, out, files="onnx")
    assert files.sha256_below(out) == files.sha256_below(bundle)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "nothing was written; the bundle of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_export_leaves_no_folder_that_looks_finished(trained_run, tmp_path):
    out = tmp_path / "bundles" / "tiny"
    command = [sys.executable, "-m", "sqznet.export", f"--model={trained_run}", "--split=val", f"--out={out}",
               "--format=onnx"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("bundles/.tmp-*/*.onnx")):  # a file is written, but none is verified
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    assert all(path.name.startswith((".tmp-", ".tiny.lock")) for path in (tmp_path / "bundles").iterdir())
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["tiny"]
    check.check(out)


def saved(classes: int, path: Path, data: Path) -> Path:
    trained = model.build(architecture.Network(classes, "v1.1", image_size=32), channel_means=(120.0, 110.0, 100.0))
    names = tuple(["ball", "house", "star", *(f"thing {number}" for number in range(classes))][:classes])
    keras_file.save(trained, keras_file.Card(names, Preprocessing(32, 32), str(data)), path)
    return path


def test_one_class_is_refused_with_the_reason(shard_set, tmp_path):
    source = saved(1, tmp_path / "one.keras", shard_set.folder)
    with pytest.raises(InputError, match="has one class: its answer is always 'ball'"):
        export(source, shard_set, tmp_path / "out", files="onnx")


@pytest.mark.slow
def test_five_thousand_classes_are_over_the_budget_and_export_with_another(shard_set, tmp_path):
    source = saved(5000, tmp_path / "many.keras", shard_set.folder)
    with pytest.raises(InputError, match=r"model.tflite is 13,.* bytes .*, over the budget of 5,242,880 bytes"):
        export(source, shard_set, tmp_path / "out", files="tflite")
    export(source, shard_set, tmp_path / "out", files="tflite", gate={"budget": 14_000_000})
    assert (tmp_path / "out" / "labels.txt").read_text().count("\n") == 5000
