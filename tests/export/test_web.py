"""The web page, in a real browser (headless Chromium): the same answers as Python, and a self-test that tells.

Needs Chromium, Playwright's Python package, and npm (or `npm ci` in sqznet/serve/web done before).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from sqznet.data.sources import synthetic
from sqznet.images import crop, resize
from sqznet.images.preprocessing import CORNER, Preprocessing
from sqznet.network import labels
from sqznet.network.sqz import encoder
from sqznet.predict import inference
from sqznet.serve import server as web_server
from tests.contract import pictures
from tests.network.test_sqz import network as random_network

WAIT_MS = 30_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# WebGPU on the processor: the real interface and the real runtimes, a hundred times slower than a GPU.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sqznet/serve/web with its packages."""
    if (web_server.WEB / "node_modules" / "onnxruntime-web").is_dir():
        return web_server.WEB
    if not shutil.which("npm"):
        pytest.skip(f"needs npm, or the packages in {web_server.WEB / 'node_modules'}")
    copy = tmp_path_factory.mktemp("web") / "web"
    shutil.copytree(web_server.WEB, copy)
    done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=copy, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm ci does not get the packages of {web_server.WEB}: {done.stderr.strip()[-300:]}")
    return copy


@pytest.fixture(scope="module")
def chromium():
    """Starts Chromium with more flags."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright's Python package")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *flags])


@pytest.fixture(scope="module")
def browser(chromium):
    browser = chromium("--disable-gpu")
    yield browser
    browser.close()


@contextlib.contextmanager
def serving(bundle: Path, web: Path):
    """The address of a bundle's page."""
    with web_server.open_server(web_server.find_site(bundle, web), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def idle(page) -> None:
    page.wait_for_selector("body[data-state=idle]", timeout=WAIT_MS)


def open_page(browser, address: str, name: str = "", **options):
    """The page with one of the bundle's files, tested and ready."""
    page = browser.new_page(**options)
    page.goto(f"{address}#{name}")
    idle(page)
    return page


@pytest.fixture(scope="module")
def page(browser, bundle, web):
    with serving(bundle, web) as address:
        page = open_page(browser, address)
        yield page
        page.close()


def state_of(page, test: str) -> str:
    return page.get_attribute(f"#{test}", "data-state")


def answers(page, place: int = 0) -> dict[int, float]:
    """Probability by output, of the likeliest five, for the photograph at a place."""
    card = page.locator("#photos > li").nth(place)
    card.and_(page.locator("[data-state=ready]")).wait_for(timeout=WAIT_MS)
    rows = card.locator(".results li").all()
    return {int(row.get_attribute("data-output")): float(row.get_attribute("data-probability")) for row in rows}


def seen_by(page) -> np.ndarray:
    """The pixels that the page shows as the network's input for the first photograph, uint8 (size, size, 3)."""
    pixels = page.evaluate(
        """() => {
            const canvas = document.querySelector("#photos canvas");
            return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
    )
    side = round((len(pixels) / 4) ** 0.5)
    return np.array(pixels, np.uint8).reshape(side, side, 4)[..., :3]


def choose(page, name: str) -> None:
    page.select_option("#file", name)
    idle(page)


def upload(page, *photos: Path) -> None:
    page.set_input_files("#photo", photos)
    idle(page)


def answer_of(page, place: int = 0) -> str:
    return page.locator("#photos .answer").nth(place).inner_text()


def note_of(page, place: int = 0) -> str:
    return page.locator("#photos .note").nth(place).inner_text()


def test_every_file_of_the_bundle_can_be_chosen(page, bundle):
    offered = set(page.locator("#file option").all_inner_texts())
    assert offered == {path.name for path in bundle.iterdir() if path.suffix in (".tflite", ".onnx")}


@pytest.mark.parametrize(
    "name",
    [
        "model.tflite",
        "model_dynamic.tflite",
        "model_int8.tflite",
        "model.onnx",
        "model_float16.onnx",
        "model_int8.onnx",
        "model_nchw.onnx",
    ],
)
def test_the_page_answers_as_python_does(page, bundle, photographs, name):
    import tensorflow as tf

    photo = photographs / "val" / "star" / "001.jpg"
    choose(page, name)
    upload(page, photo)
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    predictor = inference.load(bundle / name)
    seen = seen_by(page)
    (expected,) = predictor.predict(seen[None])
    found = answers(page)
    words = labels.readable(predictor.card.classes)
    assert len(found) == min(5, len(words)) and next(iter(found)) == expected.argmax()
    assert answer_of(page) == words[expected.argmax()]
    for output, probability in found.items():
        assert probability == pytest.approx(expected[output], abs=0.02)
    # Decoders differ by a level here and there, on which an int8 file of the tests' tiny network may turn.
    pixels = crop.preprocess_for_eval(tf.constant(photo.read_bytes()), predictor.card.preprocessing).numpy()
    assert np.abs(seen - pixels.astype(int)).mean() <= 2
    if "int8" not in name:
        (alike,) = predictor.predict(pixels[None])
        assert np.abs(alike - expected).max() <= 0.1 and alike.argmax() == expected.argmax()
    assert state_of(page, "golden") == "passed", page.inner_text("#golden")
    assert state_of(page, "resize") == "passed", page.inner_text("#resize")
    assert page.get_attribute("#file-intact", "data-state") == "passed"
    runtime = "LiteRT.js" if name.endswith(".tflite") else "ONNX Runtime Web"
    assert re.fullmatch(rf"{name}, {runtime} [\d.]+, WebAssembly, [\d.]+ ms", page.inner_text("#backend"))


def drop(page, content: bytes, name: str, kind: str) -> None:
    """A file of that name and MIME type onto the page."""
    transfer = page.evaluate_handle(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [list(content), name, kind],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    idle(page)


def test_a_photograph_can_be_dropped(page, photographs):
    drop(page, (photographs / "val" / "ball" / "000.jpg").read_bytes(), "dropped.jpg", "image/jpeg")
    assert note_of(page) == "dropped.jpg, 96\u00a0×\u00a096"
    assert len(answers(page)) == 3


def test_a_sqz_file_can_be_dropped_beside_the_files_of_the_bundle(page, bundle, photographs):
    """The photograph stays and is preprocessed for each network."""
    choose(page, "model.onnx")
    upload(page, photographs / "val" / "ball" / "000.jpg")
    before = answers(page)
    drop(page, encoder.encode(*random_network(names=None)), "random.sqz", "")
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    assert page.input_value("#file") == page.inner_text("#file-name") == "random.sqz"
    assert answer_of(page).startswith("class ") and seen_by(page).shape == (64, 64, 3)
    assert state_of(page, "golden") == state_of(page, "resize") == "pending"
    assert page.is_disabled("#again")
    choose(page, "model.onnx")
    assert answers(page) == before and seen_by(page).shape == (32, 32, 3)
    assert state_of(page, "golden") == state_of(page, "resize") == "passed"


def test_several_photographs_are_answered_in_their_order_and_a_broken_one_gives_its_reason(page, photographs, tmp_path):
    choose(page, "model.tflite")
    (tmp_path / "notes.jpg").write_text("no picture")
    good = [photographs / "val" / kind / "001.jpg" for kind in ("star", "ball", "house")]
    alone = []
    for photo in good:
        upload(page, photo)
        alone.append(answers(page))
    assert page.locator("#photos > li").count() == 1
    upload(page, good[0], tmp_path / "notes.jpg", *good[1:])
    assert [answers(page, place) for place in (0, 2, 3)] == alone
    states = [card.get_attribute("data-state") for card in page.locator("#photos > li").all()]
    assert states == ["ready", "refused", "ready", "ready"]
    assert note_of(page, 1) == "notes.jpg is not an image that this browser can decode"
    assert page.inner_text("#status") == "3 photographs classified, 1 not"
    choose(page, "model.onnx")
    assert [next(iter(answers(page, place))) for place in (0, 2, 3)] == [next(iter(each)) for each in alone]
    assert page.is_hidden("#problem")


def test_photographs_can_be_pasted(page, photographs):
    photo = (photographs / "val" / "star" / "000.jpg").read_bytes()
    page.evaluate(
        """(bytes) => {
            const clipboardData = new DataTransfer();
            for (const name of ["one.jpg", "two.jpg"]) {
                clipboardData.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
            }
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        }""",
        list(photo),
    )
    idle(page)
    assert answers(page, 0) == answers(page, 1) and note_of(page, 1).startswith("two.jpg, ")


def test_decoded_photographs_are_released(browser, bundle, web, photographs):
    """Of a phone's photographs, each takes 48 MB."""
    with serving(bundle, web) as address:
        page = browser.new_page()
        page.add_init_script(
            """window.bitmaps = [];
            const make = window.createImageBitmap;
            window.createImageBitmap = async (...given) => {
                const bitmap = await make(...given);
                window.bitmaps.push(bitmap);
                return bitmap;
            };"""
        )
        page.goto(f"{address}#model.tflite")
        idle(page)
        upload(page, *sorted((photographs / "val" / "star").iterdir()))
        assert page.locator("#photos > li[data-state=ready]").count() == 11
        # A closed bitmap has no width.
        assert page.evaluate("window.bitmaps.map(({ width }) => width)") == [0] * page.evaluate("window.bitmaps.length")
        assert page.evaluate("window.bitmaps.length") >= 11
        page.close()


def test_the_model_and_its_classes_are_named(page, bundle):
    choose(page, "model.tflite")
    manifest = json.loads((bundle / "manifest.json").read_text())
    title = bundle.name  # the heading of MODEL_CARD.md, which may have a header with comments before it
    facts = page.inner_text("#model")
    for known in (title, manifest["data"], manifest["model_sha256"][:12], f"sqznet {manifest['sqznet']}"):
        assert known in facts
    assert page.inner_text("#about").startswith(f"{title}: 3 classes, ")
    assert page.request.get(page.locator("#model a").evaluate("(link) => link.href")).ok
    page.click("#classes summary")
    assert page.locator("#class-list li").all_inner_texts() == ["ball", "house", "star"]
    assert page.is_hidden("#class-search")


def test_many_classes_can_be_searched(browser, bundle, web, tmp_path):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    (changed / "labels.txt").write_text("".join(f"kind {index}\n" for index in range(1000)))
    with serving(changed, web) as address:
        page = open_page(browser, address, "model.tflite")
        page.click("#classes summary")
        assert page.locator("#class-list li").count() == 1000
        page.fill("#class-search", "KIND 99")
        found = page.locator("#class-list li").all()
        assert [each.inner_text() for each in found] == ["kind 99", *(f"kind {index}" for index in range(990, 1000))]
        assert found[1].evaluate("(item) => item.value") == 990
        page.close()


@pytest.mark.parametrize("name", ["alpha.png", "display-p3-alpha.png", "prophoto.jpg", "orientation-7.webp"])
def test_colours_transparency_and_orientation_are_those_of_the_contract(page, bundle, tmp_path, name):
    """tests/contract tests all pictures, without the page."""
    (picture,) = (each for each in pictures.draw() if each.name == name)
    (tmp_path / name).write_bytes(picture.content)
    upload(page, tmp_path / name)
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    wanted = inference.load(bundle / "model.tflite").card.preprocessing
    assert np.abs(seen_by(page) - resize.prepare(picture.expected, wanted).astype(int)).mean() <= 2


def test_a_cmyk_photograph_with_a_profile_is_refused_by_name(page, tmp_path):
    (picture,) = (each for each in pictures.draw() if each.name == "cmyk-press-profile.jpg")
    (tmp_path / "poster.jpg").write_bytes(picture.content)
    upload(page, tmp_path / "poster.jpg")
    assert note_of(page).startswith("poster.jpg is a CMYK image with a colour profile")


def test_a_bundle_with_unsupported_preprocessing_is_refused(browser, bundle, web, tmp_path):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    assert manifest["preprocessing"]["transparency"] == "white"
    manifest["preprocessing"]["transparency"] = "black"
    (changed / "manifest.json").write_text(json.dumps(manifest))
    with serving(changed, web) as address:
        page = open_page(browser, address)
        problem = page.inner_text("#problem")
        assert problem == "transparency is black, this page supports white: it is older than the bundle"
        page.close()


def test_a_class_is_read_from_each_line_of_labels_txt(browser, bundle, web, photographs, tmp_path):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    (changed / "labels.txt").write_bytes("\u2028ball \r\nhouse\r\n \x85star\u3000\r\n".encode())
    with serving(changed, web) as address:
        page = open_page(browser, address, "model.tflite")
        upload(page, photographs / "val" / "star" / "000.jpg")
        answers(page)
        found = page.evaluate("[...document.querySelectorAll('.results .label')].map((each) => each.textContent)")
        assert sorted(found) == sorted(["\u2028ball ", "house", " \x85star\u3000"])
        page.close()


def test_controls_have_names_and_answers_are_announced(page, photographs):
    for role, name in (("combobox", "Model file"), ("button", "Use the camera"), ("button", "Test again")):
        assert page.get_by_role(role, name=name).is_visible()
    upload(page, photographs / "val" / "ball" / "000.jpg")
    assert page.get_by_label("Choose photographs").count() == 1
    assert page.get_by_role("img", name="000.jpg, as the network sees it").is_visible()
    assert page.locator("#status[aria-live]").inner_text() == f"000.jpg: {answer_of(page)}"
    assert page.locator("#backend[aria-live]").count() == 1 and page.locator("[aria-live] #golden").count() == 1


def test_the_page_fits_a_phone(browser, bundle, web, photographs):
    with serving(bundle, web) as address:
        page = open_page(browser, address, "model.tflite", viewport={"width": 360, "height": 640})
        upload(page, *[photographs / "val" / kind / "000.jpg" for kind in ("star", "ball")])
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.close()


def test_the_page_connects_to_this_machine_only(browser, bundle, web, photographs):
    asked, refused = [], []
    with serving(bundle, web) as address:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: refused.append(message.text))
        page.goto(address)
        idle(page)
        for name in ("model.tflite", "model.onnx"):
            choose(page, name)
            upload(page, photographs / "val" / "star" / "000.jpg")
        page.close()
    assert len(asked) > 10
    # data: is the page's own icon, written into it; no request leaves the browser for it.
    assert not [url for url in asked if not url.startswith((address, "data:image/svg+xml,", "blob:" + address))]
    assert not [text for text in refused if "Content Security Policy" in text]


@pytest.mark.parametrize("name", ["model.tflite", "model_int8.onnx"])
def test_answers_that_differ_from_the_recorded_ones_fail(browser, bundle, web, tmp_path, name):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    recorded = changed / "golden" / "expected" / f"{name}.bin"
    values = np.fromfile(recorded, "<f4")
    values[-1] += 0.2
    values.tofile(recorded)
    with serving(changed, web) as address:
        page = open_page(browser, address, name)
        assert state_of(page, "golden") == "failed"
        assert "0.2 (allowed" in page.inner_text("#golden .figures")
        assert state_of(page, "resize") == "passed"
        page.close()


def test_a_changed_photograph_and_a_changed_file_fail(browser, bundle, web, photographs, tmp_path):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    golden = json.loads((changed / "golden" / "golden.json").read_text())
    shutil.copy(photographs / "train" / "house" / "002.jpg", changed / "golden" / golden["photo"])
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["files"]["model.onnx"]["sha256"] = "0" * 64
    (changed / "manifest.json").write_text(json.dumps(manifest))
    with serving(changed, web) as address:
        page = open_page(browser, address, "model.onnx")
        assert state_of(page, "resize") == "failed"
        assert page.inner_text("#file-intact") == "differs from the manifest"
        page.close()


def test_a_broken_file_is_named(browser, bundle, web, tmp_path):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    (changed / "model.onnx").write_bytes(b"no model")
    (changed / "model.tflite").write_bytes(b"no model")
    with serving(changed, web) as address:
        page = open_page(browser, address)
        for name in ("model.onnx", "model.tflite"):
            choose(page, name)
            assert page.inner_text("#problem").startswith(f"{name} cannot be run: ")
            assert page.get_attribute("#file-intact", "data-state") == "failed"
        choose(page, "model_float16.onnx")
        assert page.is_hidden("#problem") and state_of(page, "golden") == "passed"
        page.close()


# Width, height, side of the result.
SHAPES = ((96, 96, 32), (37, 51, 32), (1, 1, 8), (3, 200, 32), (999, 30, 64), (20, 20, 64), (640, 481, 224), (5, 9, 50))


def test_resizing_gives_the_pixels_of_tensorflow(tmp_path):
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kinds = [("bilinear", True), ("bilinear", False), ("bicubic", True), ("bicubic", False), (CORNER, False)]
    cases = [(*shape, *kind) for shape in SHAPES for kind in kinds]
    jobs = []
    for number, (width, height, size, how, smooth) in enumerate(cases):
        rng.integers(0, 256, (height, width, 4), dtype=np.uint8).tofile(tmp_path / f"{number}.in")
        jobs.append([width, height, {"image_size": size, "interpolation": how, "antialias": smooth}])
    script = f"""
        import {{ readFileSync, writeFileSync }} from "node:fs";
        import {{ resize }} from {json.dumps((web_server.WEB / "resize.js").as_uri())};
        for (const [number, [width, height, preprocessing]] of {json.dumps(jobs)}.entries())
            writeFileSync(`${{number}}.out`, resize(readFileSync(`${{number}}.in`), width, height, preprocessing));
    """
    subprocess.run(["node", "--input-type=module"], input=script, cwd=tmp_path, text=True, check=True)
    for number, (width, height, size, how, smooth) in enumerate(cases):
        pixels = np.fromfile(tmp_path / f"{number}.in", np.uint8).reshape(height, width, 4)[..., :3]
        if how == CORNER:
            resized = tf.raw_ops.ResizeBilinear(images=pixels[None], size=[size, size])[0]
        else:
            resized = tf.image.resize(pixels, [size, size], how, antialias=smooth)
        expected = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8).numpy().astype(int)
        found = np.fromfile(tmp_path / f"{number}.out", np.uint8).reshape(expected.shape)
        assert np.abs(found - expected).max() <= 1, cases[number]
        # TensorFlow takes the weights of kernels without antialiasing from a table of 1,024 entries: more differ.
        assert (found != expected).mean() <= (0.005 if smooth else 0.05), cases[number]


def test_the_crop_is_that_of_training(tmp_path):
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    import tensorflow as tf

    kinds = [Preprocessing(224, 256), Preprocessing(227, 256, "squash"), Preprocessing(32, 32), Preprocessing(64, 73)]
    sides = [(500, 375), (375, 500), (1, 1), (7, 1000), (801, 803), (96, 96), (4032, 3024)]
    cases = [(width, height, kind) for width, height in sides for kind in kinds]
    jobs = [[width, height, vars(kind)] for width, height, kind in cases]
    script = f"""
        import {{ centralBox }} from {json.dumps((web_server.WEB / "resize.js").as_uri())};
        console.log(JSON.stringify({json.dumps(jobs)}.map((job) => centralBox(...job))));
    """
    done = subprocess.run(["node", "--input-type=module"], input=script, capture_output=True, text=True, check=True)
    for (width, height, kind), box in zip(cases, json.loads(done.stdout), strict=True):
        sides = tf.constant([height, width], tf.float32)
        box_height, box_width = crop._window(sides, kind).numpy().astype(int).tolist()
        top, left = (height - box_height) // 2, (width - box_width) // 2
        assert box == {"left": left, "top": top, "width": box_width, "height": box_height}, (width, height, kind)


def test_screenshot(request, browser, web, tmp_path):
    """A picture of the synthetic set, never a real photograph. SQZNET_SCREENSHOT is the path to write."""
    picture = Path(os.environ.get("SQZNET_SCREENSHOT") or tmp_path / "page.png")
    bundle = Path(os.environ.get("SQZNET_BUNDLE") or request.getfixturevalue("bundle"))
    drawings = [
        {"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": synthetic.draw(name, index, seed=1)}
        for index, name in enumerate(synthetic.CLASSES)
        if name in ("house", "star")
    ]
    with serving(bundle, web) as address:
        page = open_page(browser, address, "model.tflite", viewport={"width": 1200, "height": 1000})
        page.set_input_files("#photo", drawings)
        idle(page)
        page.wait_for_selector("body[data-backends=chosen][data-state=idle]", timeout=WAIT_MS)
        assert state_of(page, "golden") == state_of(page, "resize") == "passed"
        page.screenshot(path=picture, full_page=True)
        page.close()
    assert picture.read_bytes().startswith(b"\x89PNG")
