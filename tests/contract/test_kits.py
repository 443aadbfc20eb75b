"""The Kotlin and Swift kits compute the same as Python, apart from the phone's own functions."""

from __future__ import annotations

import numpy as np
import pytest

from sqznet.images import crop
from sqznet.images.preprocessing import CORNER, Preprocessing
from sqznet.network.class_map import Grid
from sqznet.predict import class_maps
from tests.contract.readers import CONTRACT

pytestmark = pytest.mark.slow  # downloads a compiler, which takes half a minute to run

# Width, height, side of the result.
SHAPES = ((96, 96, 32), (37, 51, 32), (1, 1, 8), (3, 200, 32), (999, 30, 64), (20, 20, 64), (640, 481, 224), (5, 9, 50))
KINDS = [("bilinear", True), ("bilinear", False), ("bicubic", True), ("bicubic", False), (CORNER, False)]


def opaque(rgb: np.ndarray) -> np.ndarray:
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def test_a_kit_resizes_as_tensorflow_does_antialiased_or_not(kit):
    rng = np.random.default_rng(0)
    cases = [(*shape, *kind, fit) for shape in SHAPES for kind in KINDS for fit in ("short", "squash")]
    photographs, jobs = [], []
    for number, (width, height, size, how, smooth, fit) in enumerate(cases):
        photographs.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        before, after = kit.folder / f"resize{number}.in", kit.folder / f"resize{number}.out"
        opaque(photographs[-1]).tofile(before)
        numbers = [width, height, size, size + 3, fit, how, str(smooth).lower()]
        jobs.append(["resize", before, after, *numbers])
    kit.run(jobs)
    for photograph, case, job in zip(photographs, cases, jobs, strict=True):
        _, _, size, how, smooth, fit = case
        expected = crop.preprocess_for_eval(photograph, Preprocessing(size, size + 3, fit, how, smooth)).numpy()
        found = np.fromfile(job[2], np.uint8).reshape(expected.shape)
        assert np.abs(found - expected.astype(int)).max() <= 1, case
        # TensorFlow rounds the weights of these kernels to a table of 1,024 entries, so more levels differ.
        assert (found != expected).mean() <= (0.0005 if smooth else 0.05), case


@pytest.mark.parametrize("configuration", ["ARGB_8888", "HARDWARE"])
def test_a_kit_puts_transparency_onto_white(kit, configuration):
    rng = np.random.default_rng(1)
    rgba = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    rgba[:20, :, 3] = 0  # transparent pixels have colours, which must not show
    rgba[20:40, :, 3] = 255
    alpha = rgba[..., 3:] / 255
    flat = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    (found,) = kit.network_pixels([rgba], CONTRACT.image_size, configuration)
    expected = crop.preprocess_for_eval(flat, CONTRACT).numpy().astype(int)
    assert np.abs(found - expected).max() <= 1
    (white,) = kit.network_pixels([rgba * 0], CONTRACT.image_size, configuration)
    assert (white == 255).all()


@pytest.mark.parametrize(
    ("probabilities", "order"),
    [("0.1 0.4 0.4 0.1", "1 2 0 3"), ("0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", " ".join(map(str, range(22))))],
)
def test_of_equal_probabilities_a_kit_ranks_the_first_class_first(kit, probabilities, order):
    kit.run([["ranked", kit.folder / "order.txt", *probabilities.split()]])
    assert (kit.folder / "order.txt").read_text() == order


def test_a_kit_is_sure_from_the_threshold_of_the_contract_on(kit):
    kit.run([["sure", kit.folder / "sure.txt", "0.749", "0.75", "1"]])
    assert (kit.folder / "sure.txt").read_text() == "false true true"


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"a\nb\nc\n", "a|b|c"),
        (b"a\r\nb\r\nc\r\n", "a|b|c"),
        (b"a\nb\nc", "a|b|c"),
        (b"a\n\nc\n", "a||c"),
        ('ça va\u2028\n \x85\n🦜, "x"\n'.encode(), 'ça va\u2028| \x85|🦜, "x"'),
    ],
)
def test_a_kit_reads_a_class_from_each_line_of_labels_txt(kit, content, labels):
    (kit.folder / "labels.txt").write_bytes(content)
    kit.run([["labels", kit.folder, kit.folder / "labels.out"]])
    assert (kit.folder / "labels.out").read_bytes().decode() == labels


@pytest.mark.parametrize(
    ("resize", "interpolation", "message"),
    [
        ("long", "bilinear", "resize is long, this code supports "),
        ("short", "lanczos", "interpolation is lanczos, this code supports "),
    ],
)
def test_a_kit_reports_that_it_is_older_than_the_bundle_only_if_it_is(kit, resize, interpolation, message):
    kit.run([["refused", kit.folder / "refused.txt", resize, interpolation]])
    said = (kit.folder / "refused.txt").read_text()
    assert message in said and said.endswith("it is older than the bundle")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [CONTRACT.image_size, 3 * CONTRACT.image_size])
def test_a_kit_draws_the_overlay_of_python(kit, index, size):
    grid = Grid(3, CONTRACT.image_size / 4, CONTRACT.image_size / 6)
    scores = np.random.default_rng(2).normal(1, 2, (3, 3, 2)).astype(np.float32)
    target = kit.folder / "overlay.rgba"
    kit.run([["overlay", target, grid.side, grid.stride, grid.offset, index, size, *scores.ravel()]])
    rgba = np.fromfile(target, np.uint8).reshape(size, size, 4).astype(int)
    places = (np.arange(size) + 0.5) * CONTRACT.image_size / size
    black = np.zeros((size, size, 3), np.uint8)
    expected = class_maps.draw(black, scores[..., index], grid, places, places, CONTRACT.image_size)
    drawn = rgba[..., :3] * rgba[..., 3:] / 255
    assert np.abs(drawn - expected).max() <= 1.5 and expected.max() > 170


def test_the_android_kit_keeps_the_fastest_backend_that_passes_the_self_test(kotlin_kit):
    (kotlin_kit.folder / "marks").mkdir()
    kotlin_kit.run([["backends", kotlin_kit.folder / "backends.txt", kotlin_kit.folder / "marks"]])
    chosen, *refused, closed, mark = (kotlin_kit.folder / "backends.txt").read_text().splitlines()
    assert chosen == "fast"
    assert refused == [
        "missing: there is no NPU",
        "native: no library",
        "hangs: it did not answer within 2 s",
        "wrong: its answers differ from the recorded ones by up to 0.5",
        "crashes: it ended the app before",
    ]
    assert closed == "wrong slow later"
    assert mark == "sqznet-crashes"
