"""`evaluate --foreign`: AUROC, FPR and the wrongly answered photographs of the largest probability and the energy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sqznet.core import detection
from sqznet.core.errors import InputError
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import none_of_these
from sqznet.evaluate.none_of_these import ENERGY, PROBABILITY, Scored
from sqznet.predict import inference
from tests.conftest import build_set, export


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Twelve pictures of noise in two folders, and a text file."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("others"), np.random.default_rng(0)
    for number in range(12):
        path = folder / f"noise{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    (folder / "notes.txt").write_text("no photograph")
    return folder


@pytest.mark.parametrize("source", ["{}", "folder:{}"])
def test_a_run_is_measured_with_both_scores(trained_run, shard_set, others, tmp_path, capsys, source):
    flags = [f"--model={trained_run}", f"--data={shard_set.folder}", "--split=val", f"--out={tmp_path}"]
    assert evaluate.main([*flags, f"--foreign={source.format(others)}"]) == 0
    found = json.loads((tmp_path / "foreign-val.json").read_text())
    assert (found["n"], found["n_foreign"]) == (shard_set.records("val"), 12)
    for figures in found["scores"].values():
        for each in figures.values():
            low, high = each["interval_95"]
            assert 0 <= low <= each["value"] <= high <= 1
    assert found["own_answered"] >= 0.95 and not found["threshold_of_the_file"]
    probability = found["scores"][PROBABILITY]
    assert probability["answered"]["value"] == probability["fpr"]["value"]  # both where 95 % are answered
    assert found["by_threshold"][0]["own_answered"] == found["by_threshold"][0]["foreign_answered"] == 1
    assert (tmp_path / "foreign-val.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "AUROC" in printed and "energy score" in printed


def test_the_energy_is_that_of_the_logits(trained_run, shard_set):
    predictor = inference.load(trained_run)
    size = predictor.image_size
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    scored = none_of_these.score(predictor, iter([images]))
    logits = predictor.runtime.model(images, training=False).numpy()
    np.testing.assert_allclose(scored.scores[ENERGY], detection.energy(logits), rtol=1e-4)
    np.testing.assert_allclose(scored.scores[PROBABILITY], predictor.predict(images).max(axis=1), rtol=1e-5)


def test_a_file_without_logits_is_measured_with_the_largest_probability(
    trained_run, shard_set, others, tmp_path, capsys
):
    bundle = tmp_path / "bundle"
    export(trained_run, shard_set, bundle, files="onnx")
    model = bundle / "model.onnx"
    flags = [f"--model={model}", f"--data={shard_set.folder}", "--split=val", f"--foreign={others}"]
    assert evaluate.main(flags) == 0
    found = json.loads((bundle / "foreign-val-model.onnx.json").read_text())
    assert list(found["scores"]) == [PROBABILITY] and found["energy_minus_max_probability"] is None
    assert "this file gives probabilities only" in capsys.readouterr().out


def test_shards_can_be_foreign(trained_run, others, tmp_path):
    shards = build_set(f"folder:{others}", tmp_path / "set")
    scored = none_of_these.score(
        predictor := inference.load(trained_run), none_of_these.foreign_images(predictor, shards.folder)
    )
    assert scored.n == 12


def test_photographs_of_a_class_of_the_model_are_refused(trained_run, shard_set, photographs, others, tmp_path):
    predictor = inference.load(trained_run)
    with pytest.raises(InputError, match="is a class of .*: name photographs of none of its classes"):
        list(none_of_these.foreign_images(predictor, photographs))
    with pytest.raises(InputError, match="is a class of"):
        list(none_of_these.foreign_images(predictor, Path(shard_set.folder)))
    (tmp_path / "empty").mkdir()
    shutil.copy(others / "notes.txt", tmp_path / "empty")
    with pytest.raises(InputError, match="none of 1 files in --foreign="):
        list(none_of_these.foreign_images(predictor, tmp_path / "empty"))
    with pytest.raises(InputError, match="is not a folder of photographs or of shards"):
        list(none_of_these.foreign_images(predictor, tmp_path / "missing"))


def test_flags_that_do_not_fit_are_refused(trained_run, others):
    with pytest.raises(InputError, match="leave out --against, or --foreign"):
        evaluate.main([f"--model={trained_run}", f"--foreign={others}", f"--against={trained_run}"])
    with pytest.raises(InputError, match="leave out --resize_as, or --foreign"):
        evaluate.main([f"--model={trained_run}", f"--foreign={others}", "--resize_as=ios"])


def scored(first: np.ndarray, second: np.ndarray) -> Scored:
    return Scored({PROBABILITY: first, ENERGY: second}, np.zeros(len(first), int))


def test_the_better_score_is_named_with_its_gain():
    rng = np.random.default_rng(0)
    good, poor = rng.normal(2, 1, 300), rng.normal(0.1, 1, 300)
    foreign = scored(rng.normal(0, 1, 300), rng.normal(0, 1, 300))
    assert none_of_these.verdict(none_of_these.better(scored(poor, good), foreign)).startswith(
        "the energy score is better (AUROC +"
    )
    assert "the largest probability is better than the energy score (AUROC -" in none_of_these.verdict(
        none_of_these.better(scored(good, poor), foreign)
    )
    same = none_of_these.better(scored(good, good), scored(foreign.scores[ENERGY], foreign.scores[ENERGY]))
    assert "not better by more than its interval" in none_of_these.verdict(same)


def test_the_threshold_of_a_file_sets_the_answered_shares():
    own = scored(np.array([0.2, 0.6, 0.8, 0.9]), np.array([1.0, 2.0, 3.0, 4.0]))
    foreign = scored(np.array([0.1, 0.7]), np.array([1.5, 0.5]))
    found, threshold, share = none_of_these.figures(own, foreign, 0.5)
    assert (threshold, share) == (0.5, 0.75)
    assert found[PROBABILITY]["answered"]["value"] == 0.5  # 0.7
    assert found[ENERGY]["answered"]["value"] == 0.0  # 2.0 answers as many
