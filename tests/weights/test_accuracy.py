"""The published networks on real photographs: one ImageNet train photograph for each of the 1,000 classes."""

from __future__ import annotations

import json

import pytest

from sqznet.core.errors import InputError
from sqznet.data.manifest import Manifest
from sqznet.evaluate import accuracy_report, scoring
from sqznet.predict import inference
from tests.conftest import SHARED, build_set
from tests.weights.conftest import published_file


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Manifest:
    folder = SHARED / "imagenet_sample"
    if not folder.is_dir():
        pytest.skip(f"needs the photographs of {folder}, which are not part of the project")
    return build_set(f"folder:{folder}", tmp_path_factory.mktemp("sample") / "set", shard_records=250, workers=2)


@pytest.mark.parametrize(("arch", "top1", "top5"), [("v1.0", 0.650, 0.855), ("v1.1", 0.662, 0.860)])
@pytest.mark.slow
def test_the_published_accuracy_is_reached(arch, top1, top5, sample, tmp_path, capsys):
    """An independent import scored 65.4 and 85.9 %, and 66.6 and 86.4 %. RGB taken for BGR would cost 18 points."""
    predictor = inference.load(published_file(arch))
    score = scoring.evaluate(predictor, sample, "train")
    assert (score.n, score.top1 >= top1, score.top5 >= top5) == (1000, True, True), (score.top1, score.top5)
    accuracy_report.report(score, predictor, sample, "train", tmp_path)
    note = json.loads(next(tmp_path.glob("evaluation-*.json")).read_text())["note"]
    assert note.startswith("1,000 of 1,000 records of train are named like ImageNet train photographs")
    printed = capsys.readouterr().out
    assert note in printed and "n04" not in printed  # names, not numbers


def test_a_published_network_needs_its_own_classes(sample, shard_set):
    with pytest.raises(InputError, match="the model has no class 'ball'"):
        scoring.evaluate(inference.load(published_file("v1.1")), shard_set, "val")
