"""The web page answers "not sure" below the threshold of the manifest."""

from __future__ import annotations

import json
import shutil

import pytest

from sqznet.predict import inference
from tests.export.test_web import answer_of, answers, browser, chromium, open_page, seen_by, serving, upload, web

__all__ = ["browser", "chromium", "web"]  # fixtures


@pytest.mark.parametrize("step", [0.01, -0.01])
def test_the_page_is_not_sure_below_the_threshold(browser, bundle, web, photographs, tmp_path, step):
    photo = photographs / "val" / "star" / "001.jpg"
    with serving(bundle, web) as address:
        page = open_page(browser, address, "model.onnx")
        upload(page, photo)
        before, answer = answers(page), answer_of(page)
        (expected,) = inference.load(bundle / "model.onnx").predict(seen_by(page)[None])
        assert "Not sure" not in page.inner_text("#model")
        page.close()
    with_threshold = shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["threshold"] = {"value": float(expected.max()) + step, "min_precision": 0.98}
    (with_threshold / "manifest.json").write_text(json.dumps(manifest))
    with serving(with_threshold, web) as address:
        page = open_page(browser, address, "model.onnx")
        upload(page, photo)
        assert answer_of(page) == (f"not sure (best guess: {answer})" if step > 0 else answer)
        assert answers(page) == before
        assert "Not sure" in page.inner_text("#model")
        page.close()
