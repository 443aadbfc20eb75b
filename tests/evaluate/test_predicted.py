from __future__ import annotations

import numpy as np
import pytest

from sqznet.data import predictions
from sqznet.data.survey.photographs import Stored
from sqznet.evaluate import __main__ as evaluate
from sqznet.evaluate import scoring
from sqznet.predict import inference


@pytest.mark.parametrize(("split", "held_out"), [("val", True), ("train", False)])
def test_the_file_has_name_label_and_probabilities_of_each_record(trained_run, shard_set, tmp_path, split, held_out):
    file = tmp_path / "found.npz"
    flags = [f"--model={trained_run}", f"--data={shard_set.folder}", f"--split={split}", f"--out={tmp_path}"]
    assert evaluate.main([*flags, f"--predictions={file}"]) == 0
    found = predictions.load(file)
    assert (found.split, found.held_out, found.classes) == (split, held_out, shard_set.classes)
    names = Stored(shard_set).names(split)
    assert found.files == [name.file for name in names] and len(set(found.files)) == shard_set.records(split)
    assert all(
        name.file.split("/")[1] == shard_set.classes[label] for name, label in zip(names, found.labels, strict=True)
    )
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    score = scoring.evaluate(inference.load(trained_run), shard_set, split)
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1) == found.labels, score.hits)
