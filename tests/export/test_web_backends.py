"""WebGPU and WebNN in the page: a backend is used only if it passes the golden test and is the fastest.

Chromium runs WebGPU on the processor here (SwiftShader). Other backends are replaced by ones that fail in known ways.
Needs what test_web.py needs.
"""

from __future__ import annotations

import io
import json
import re
import shutil

import pytest
from PIL import Image

from sqznet.predict import inference
from tests.export import test_web
from tests.export.test_web import (
    SOFTWARE_GPU,
    WAIT_MS,
    answers,
    choose,
    idle,
    open_page,
    seen_by,
    serving,
    state_of,
    upload,
)

chromium, browser, web = test_web.chromium, test_web.browser, test_web.web
SLOW_MS = 300_000  # for WebGPU on the processor

# Takes the place of runtimes.js. All run the file in WebAssembly, "fast" only once for each input.
FAKES = """
import * as real from "./runtimes_real.js";

export const { probabilities } = real;
export const BACKENDS = {
  wasm: "WebAssembly", hangs: "Hangs", hangsLater: "Hangs later", wrong: "Wrong", throws: "Throws",
  throwsLater: "Throws later", nan: "NaN", fast: "Fast", slow: "Slow",
};
export const accelerators = () => OFFERED;
export const released = (window.released = []);

export async function load(name, bytes, entry, backend = "wasm") {
  if (backend === "throws") throw new Error("it has no device");
  if (backend === "hangs") return new Promise(() => {});
  const model = await real.load(name, bytes, entry);
  const known = new Map();
  const run = async (pixels) => {
    if (backend === "hangsLater") return new Promise(() => {});
    if (backend === "throwsLater") throw new Error("it lost its device");
    if (backend === "fast" && window.lost) throw new Error("it lost its device");
    if (backend === "slow" || backend === "wasm") await new Promise((resolve) => setTimeout(resolve, 30));
    const key = pixels.join();
    if (!known.has(key)) known.set(key, await model.run(pixels));
    const raw = known.get(key);
    if (backend === "wrong") return Float32Array.from(raw).reverse();
    return backend === "nan" ? Float32Array.from(raw).fill(NaN) : raw;
  };
  const release = () => {
    released.push(backend);
    model.release();
  };
  return { runtime: model.runtime, run, release };
}
"""


@pytest.fixture
def gpu_browser(chromium):
    browser = chromium(*SOFTWARE_GPU)
    yield browser
    browser.close()


@pytest.fixture
def fake_page(request, browser, bundle, web):
    """The page with model.tflite and the replaced backends, not waited for. A backend has five seconds."""
    with serving(bundle, web) as address:
        page = browser.new_page()
        javascript = {"content_type": "text/javascript"}
        real = (web / "runtimes.js").read_text()
        fakes = FAKES.replace("OFFERED", json.dumps(request.param))
        limited(page, web, 5_000)
        page.route("**/runtimes.js", lambda route: route.fulfill(body=fakes, **javascript))
        page.route("**/runtimes_real.js", lambda route: route.fulfill(body=real, **javascript))
        page.goto(f"{address}#model.tflite")
        idle(page)
        yield page
        page.close()


def limited(page, web, milliseconds: int) -> None:
    """Gives each backend of the page another time."""
    before = "TRIAL_MS = 30_000"
    text = (web / "backends.js").read_text()
    assert before in text
    text = text.replace(before, f"TRIAL_MS = {milliseconds}")
    page.route("**/backends.js", lambda route: route.fulfill(body=text, content_type="text/javascript"))


def chosen(page, timeout: int = WAIT_MS) -> None:
    page.wait_for_selector("body[data-backends=chosen][data-state=idle]", timeout=timeout)


def states(page) -> dict[str, str]:
    rows = page.locator("#backend-list li[data-backend]").all()
    return {row.get_attribute("data-backend"): row.get_attribute("data-state") for row in rows}


def row_of(page, backend: str) -> str:
    return page.locator(f"#backend-list li[data-backend={backend}]").text_content()


@pytest.mark.parametrize("fake_page", [["wrong", "throws", "throwsLater", "nan", "fast", "slow"]], indirect=True)
def test_the_fastest_backend_that_passes_the_golden_test_is_used(fake_page, photographs):
    upload(fake_page, photographs / "val" / "star" / "000.jpg")
    before = answers(fake_page)
    chosen(fake_page)
    assert re.fullmatch(r"model\.tflite, LiteRT\.js [\d.]+, Fast, [\d.]+ ms", fake_page.inner_text("#backend"))
    refused = dict.fromkeys(("wrong", "throws", "throwsLater", "nan"), "refused")
    assert states(fake_page) == {"wasm": "admitted", "fast": "used", "slow": "admitted"} | refused
    assert row_of(fake_page, "throws") == "Throws: refused, it has no device"
    assert row_of(fake_page, "throwsLater") == "Throws later: refused, it lost its device"
    assert "refused, its answers differ from the recorded ones by up to 0." in row_of(fake_page, "wrong")
    assert re.fullmatch(r"Slow: [\d.]+ ms", row_of(fake_page, "slow"))
    assert state_of(fake_page, "golden") == "passed"
    # WebAssembly stays for a backend that fails later.
    assert sorted(fake_page.evaluate("window.released")) == ["nan", "slow", "throwsLater", "wrong"]
    upload(fake_page, photographs / "val" / "star" / "000.jpg")
    assert answers(fake_page) == before


@pytest.mark.slow
@pytest.mark.parametrize("fake_page", [["hangs", "hangsLater", "fast"]], indirect=True)
def test_photographs_are_answered_while_a_backend_hangs_and_it_is_refused(fake_page, photographs):
    assert fake_page.get_attribute("body", "data-backends") == "trying"
    upload(fake_page, photographs / "val" / "star" / "000.jpg")
    assert answers(fake_page) and "WebAssembly" in fake_page.inner_text("#backend")
    chosen(fake_page)
    assert row_of(fake_page, "hangs") == "Hangs: refused, it did not answer within 5 s"
    assert row_of(fake_page, "hangsLater") == "Hangs later: refused, it did not answer within 5 s"
    assert states(fake_page)["fast"] == "used"


@pytest.mark.parametrize("fake_page", [["fast"]], indirect=True)
def test_a_backend_that_fails_after_its_test_is_replaced_by_webassembly(fake_page, photographs):
    upload(fake_page, photographs / "val" / "ball" / "000.jpg")
    before = answers(fake_page)
    chosen(fake_page)
    fake_page.evaluate("window.lost = true")
    upload(fake_page, photographs / "val" / "ball" / "000.jpg")
    assert answers(fake_page) == before
    assert "WebAssembly" in fake_page.inner_text("#backend")
    assert states(fake_page)["wasm"] == "used"
    assert row_of(fake_page, "fast") == "Fast: refused, it lost its device"


@pytest.mark.parametrize("fake_page", [["throws", "slow", "fast"]], indirect=True)
def test_another_file_can_be_chosen_while_backends_are_tried(fake_page, photographs):
    choose(fake_page, "model_dynamic.tflite")
    chosen(fake_page)
    assert re.fullmatch(r"model_dynamic\.tflite, .*, Fast, [\d.]+ ms", fake_page.inner_text("#backend"))
    assert list(states(fake_page)).count("fast") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_webgpu_itself_passes_the_golden_test(gpu_browser, bundle, web, name):
    asked, refused = [], []
    with serving(bundle, web) as address:
        page = gpu_browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: refused.append(message.text))
        limited(page, web, SLOW_MS)
        page.goto(f"{address}#{name}")
        idle(page)
        chosen(page, SLOW_MS)
        assert re.fullmatch(r"WebGPU: [\d.]+ ms", row_of(page, "webgpu"))
        assert not [text for text in refused if "Content Security Policy" in text]
        assert not [url for url in asked if not url.startswith((address, "data:image/svg+xml,"))]
        page.close()


@pytest.mark.slow
def test_webgpu_itself_answers_photographs(gpu_browser, bundle, web, photographs):
    """WebAssembly is made slower here, because WebGPU on the processor would not be chosen."""
    with serving(bundle, web) as address:
        page = gpu_browser.new_page()
        real = (web / "runtimes.js").read_text()
        line = "const outputs = await model.run(tensor);"
        delay = 'if (backend === "wasm") await new Promise((resolve) => setTimeout(resolve, 500));'
        assert line in real
        slower = real.replace(line, delay + line)
        page.route("**/runtimes.js", lambda route: route.fulfill(body=slower, content_type="text/javascript"))
        limited(page, web, SLOW_MS)
        page.goto(f"{address}#model.tflite")
        idle(page)
        chosen(page, SLOW_MS)
        assert re.fullmatch(r"model\.tflite, LiteRT\.js [\d.]+, WebGPU, [\d.]+ ms", page.inner_text("#backend"))
        upload(page, photographs / "val" / "star" / "001.jpg")
        (expected,) = inference.load(bundle / "model.tflite").predict(seen_by(page)[None])
        for output, probability in answers(page).items():
            assert probability == pytest.approx(expected[output], abs=0.001)
        page.close()


def test_devices_that_the_machine_lacks_are_refused_with_the_reason(browser, bundle, web):
    """The browser of the tests has the interface of WebGPU, but no GPU."""
    with serving(bundle, web) as address:
        page = browser.new_page()
        page.add_init_script(
            """const createContext = async ({ deviceType }) => { throw new Error(`there is no ${deviceType}`); };
            Object.defineProperty(navigator, "ml", { value: { createContext } });"""
        )
        page.goto(f"{address}#model.onnx")
        idle(page)
        chosen(page)
        assert row_of(page, "webgpu") == "WebGPU: refused, this machine has no GPU for it"
        assert row_of(page, "webnn-npu") == "WebNN (NPU): refused, there is no npu"
        assert row_of(page, "webnn-gpu") == "WebNN (GPU): refused, there is no gpu"
        assert states(page)["wasm"] == "used"
        assert page.evaluate("sessionStorage.length") == 0
        page.close()


def test_a_backend_that_stopped_the_page_is_not_tried_again(browser, bundle, web):
    with serving(bundle, web) as address:
        page = browser.new_page()
        page.goto(f"{address}#model.tflite")
        chosen(page)
        assert page.evaluate("sessionStorage.length") == 0
        page.evaluate('sessionStorage.setItem("model.tflite webgpu", "started")')
        for _ in range(2):
            page.reload()
            chosen(page)
            assert row_of(page, "webgpu") == "WebGPU: refused, it stopped this page before"
        page.close()


@pytest.mark.parametrize("orientation", [6, 1])
def test_the_turned_copy_of_the_golden_photograph_tests_the_orientation(browser, bundle, web, tmp_path, orientation):
    changed = tmp_path / "bundle"
    shutil.copytree(bundle, changed)
    upright = Image.open(changed / "golden" / "photo.jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: turned by 90 degrees to the left
    content = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(content, "JPEG", quality=98, subsampling=0, exif=exif)
    (changed / "golden" / "turned.jpg").write_bytes(content.getvalue())
    vectors = changed / "golden" / "golden.json"
    vectors.write_text(json.dumps(json.loads(vectors.read_text()) | {"photo_turned": "turned.jpg"}))
    with serving(changed, web) as address:
        page = open_page(browser, address, "model.tflite")
        assert state_of(page, "resize") == ("passed" if orientation == 6 else "failed")
        assert "Turned copy: " in page.inner_text("#resize .figures")
        page.close()
