"""The class maps of the web page, in Chromium: the same drawing as Python's, for files of a bundle and .sqz files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sqznet.core import metrics
from sqznet.network.sqz import encoder
from sqznet.predict import class_maps, inference
from tests.export.test_web import (
    WAIT_MS,
    answer_of,
    browser,
    choose,
    chromium,
    drop,
    idle,
    open_page,
    seen_by,
    serving,
    state_of,
    upload,
    web,
)
from tests.network.test_sqz import network as random_network

__all__ = ["browser", "chromium", "web"]  # fixtures
LABEL = "Show where each answer is seen"


@pytest.fixture(scope="module")
def page(browser, map_bundle, web):
    with serving(map_bundle, web) as address:
        page = open_page(browser, address)
        yield page
        page.close()


def switch(page, on: bool) -> None:
    page.get_by_label(LABEL).set_checked(on)
    idle(page)


def drawn_by_python(path: Path, pixels: np.ndarray) -> np.ndarray:
    predictor = inference.load(path)
    (probabilities,), (maps,) = predictor.predict_with_class_map(pixels[None])
    return class_maps.draw_on_input(pixels, maps[..., metrics.ranking(probabilities)[0]], predictor.require_class_map())


def check_overlay(page, path: Path, photo: Path) -> None:
    """The switch draws what Python draws for the same pixels, and the answer stays."""
    switch(page, on=False)
    upload(page, photo)
    pixels, answer = seen_by(page), answer_of(page)
    switch(page, on=True)
    overlay = seen_by(page).astype(int)
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    assert answer_of(page) == answer
    # Runtimes differ a little, and so do the colours of int8 maps.
    assert np.abs(overlay - drawn_by_python(path, pixels)).max() <= (40 if "int8" in path.name else 2)
    assert np.ptp(overlay, axis=2).max() > 50, "no place has a colour"
    label = page.locator("#photos canvas").first.get_attribute("aria-label")
    assert label == f"{photo.name}, and where the network sees: {answer}"
    switch(page, on=False)
    assert (seen_by(page) == pixels).all()


@pytest.mark.parametrize("name", ["model.tflite", "model_int8.tflite", "model.onnx", "model_int8.onnx"])
def test_the_overlay_is_the_drawing_of_python(page, map_bundle, photographs, name):
    choose(page, name)
    assert state_of(page, "golden") == "passed", page.inner_text("#golden")
    assert "; class map float32 (" in page.inner_text("#file-output")
    check_overlay(page, map_bundle / name, photographs / "val" / "star" / "001.jpg")


def test_a_sqz_file_has_class_maps(page, photographs, tmp_path):
    path = tmp_path / "random.sqz"
    path.write_bytes(encoder.encode(*random_network("v1.0", padding=1, names=None)))
    drop(page, path.read_bytes(), path.name, "")
    check_overlay(page, path, photographs / "val" / "ball" / "001.jpg")


def test_the_switch_is_off_for_a_file_without_class_maps_and_says_how_to_export_them(browser, bundle, web, photographs):
    with serving(bundle, web) as address:
        page = open_page(browser, address, "model.onnx")
        assert page.get_by_label(LABEL).is_disabled()
        assert "Export it with --outputs=probabilities,class_map" in page.inner_text("#map-note")
        page.close()


def test_the_switch_applies_to_every_photograph_and_to_the_next_file(page, photographs):
    choose(page, "model.onnx")
    switch(page, on=True)
    upload(page, *(photographs / "val" / kind / "001.jpg" for kind in ("star", "ball")))
    choose(page, "model.tflite")
    labels = [each.get_attribute("aria-label") for each in page.locator("#photos canvas").all()]
    assert len(labels) == 2 and all("and where the network sees: " in label for label in labels)
    switch(page, on=False)


def test_screenshot_of_class_maps(request, browser, web, photographs, tmp_path):
    """SQZNET_MAPS is the path to write, SQZNET_BUNDLE the bundle and SQZNET_PHOTOS the folder of photographs."""
    picture = Path(os.environ.get("SQZNET_MAPS") or tmp_path / "page.png")
    shown = Path(os.environ.get("SQZNET_BUNDLE") or request.getfixturevalue("map_bundle"))
    folder = Path(os.environ.get("SQZNET_PHOTOS") or photographs / "val" / "house")
    with serving(shown, web) as address:
        page = open_page(browser, address, "model.tflite", viewport={"width": 1200, "height": 1000})
        page.wait_for_selector("body[data-backends=chosen][data-state=idle]", timeout=WAIT_MS)
        page.set_input_files("#photo", sorted(folder.iterdir())[:2])
        idle(page)
        switch(page, on=True)
        page.screenshot(path=picture, full_page=True)
        page.close()
    assert picture.read_bytes().startswith(b"\x89PNG")
