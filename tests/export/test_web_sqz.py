"""`.sqz` files in the browser: decoded to the same bits as in Python, refused where Python refuses, run as Keras runs
them.

Needs what test_web.py needs.
"""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from sqznet.data.sources import synthetic
from sqznet.images import crop
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import architecture, labels
from sqznet.network import model as models
from sqznet.network.sqz import decoder, encoder
from sqznet.network.sqz.decoder import ENVELOPE, Contents, Damaged
from tests.export import test_web
from tests.export.test_web import answer_of, answers, idle, open_page, seen_by, serving
from tests.fuzz import mutate

chromium, browser, web = test_web.chromium, test_web.browser, test_web.web

NAMES = ("ball", "café", "star")
# Image sizes at which pools of odd and even sides come up: 64 and 66 in v1.0, 64 and 65 in v1.1.
NETWORKS = {
    # name: arch, activation, bypass, padding of conv10, class names, classes, image size
    "plain-1.0": ("v1.0", "relu", "none", 1, "imagenet", 1000, 66),
    "simple-1.0": ("v1.0", "elu", "simple", 0, NAMES, 3, 64),
    "complex-1.0": ("v1.0", "relu", "complex", 0, None, 5, 64),
    "plain-1.1": ("v1.1", "elu", "none", 0, ("n01440764", "n01443537"), 2, 65),
    "simple-1.1": ("v1.1", "relu", "simple", 1, None, 4, 64),
    "complex-1.1": ("v1.1", "elu", "complex", 1, NAMES, 3, 64),
}
GAINS = {"none": 1.0, "simple": 0.85, "complex": 0.6}  # bypasses add up
HEADER = 63  # bytes before the class names

DECODE = """
async () => {
  const [{ decode }, { sha256 }] = await Promise.all([import("/sqz.js"), import("/bundle.js")]);
  const content = await fetch("/model/some.sqz").then((response) => response.arrayBuffer());
  // Not at the beginning of its buffer, as a part of something larger would be.
  const bytes = new Uint8Array(content.byteLength + 3).subarray(3);
  bytes.set(new Uint8Array(content));
  let network;
  try {
    network = decode(bytes);
  } catch (error) {
    return { refused: error.message };
  }
  const { layers, ...header } = network;
  const found = [];
  for (const [name, { shape, kernel, bias }] of Object.entries(layers)) {
    found.push([name, shape, await sha256(kernel), await sha256(bias)]);
  }
  return { header, layers: found };
}
"""
RUN = """
async (pixels) => {
  const [{ decode }, { portsOf, toOnnx }, { load }] =
    await Promise.all(["sqz", "sqz_onnx", "runtimes"].map((name) => import(`/${name}.js`)));
  const content = await fetch("/model/some.sqz").then((response) => response.arrayBuffer());
  const network = decode(new Uint8Array(content));
  const model = await load("some.onnx", toOnnx(network), portsOf(network));
  const probabilities = await model.run(Uint8Array.from(pixels));
  model.release();
  return [...probabilities];
}
"""


def network(name: str) -> tuple[Contents, dict[str, encoder.Integers]]:
    """A network of random integers that keeps its activations within bounds, so that no class takes all."""
    arch, activation, bypass, padding, names, classes, image_size = NETWORKS[name]
    draw = np.random.default_rng(list(NETWORKS).index(name))
    integers, layers = {}, {}
    for layer, shape in decoder.shapes(arch, bypass, classes).items():
        values = np.round(draw.laplace(size=shape) * draw.uniform(0.5, 3, (1, 1, shape[2], 1))).astype(np.int64)
        step = GAINS[bypass] * np.sqrt(2 / np.prod(shape[:3])) / values.std()
        integers[layer] = encoder.Integers(values, np.float32(step))
        layers[layer] = (integers[layer].kernel, draw.normal(scale=0.1, size=shape[3]).astype(np.float32))
    means, deviations = (123.0, 117.0, 104.0), (58.375, 57.125, 57.5)
    preprocessing = (image_size, "squash", image_size + 8, "bicubic", False)
    made = Contents(
        arch, activation, bypass, padding, classes, names, *preprocessing, means, deviations, "von nirgendwo ☃", layers
    )
    return made, integers


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    return {name: encoder.encode(*network(name)) for name in NETWORKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The served bundle: `.sqz` files and an empty manifest."""
    folder = tmp_path_factory.mktemp("sqz")
    (folder / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def address(folder, web):
    with serving(folder, web) as address:
        yield address


@pytest.fixture(scope="module")
def page(browser, address):
    """The page without a file; tests call its modules directly."""
    page = open_page(browser, address)
    yield page
    page.close()


def decoded(page, folder: Path, content: bytes) -> dict:
    """The result of sqz.js: header and checksums of the layers, or the reason of a refusal."""
    (folder / "some.sqz").write_bytes(content)
    return page.evaluate(DECODE)


def as_decoded(found: Contents) -> dict:
    """The same for the reference decoder."""
    header = {name: value for name, value in vars(found).items() if name != "layers"}
    rows = [
        [name, list(kernel.shape), *(sha256(each.tobytes()).hexdigest() for each in (kernel, bias))]
        for name, (kernel, bias) in found.layers.items()
    ]
    return {"header": json.loads(json.dumps(header)), "layers": rows}


def with_checksum(content: bytes) -> bytes:
    """The content with its correct length and checksum."""
    body = content[ENVELOPE.size :]
    return ENVELOPE.pack(decoder.MAGIC, ENVELOPE.size + len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize("name", NETWORKS)
def test_the_browser_decodes_to_the_bits_of_python(page, folder, encoded, name):
    assert decoded(page, folder, encoded[name]) == as_decoded(decoder.decode(encoded[name]))


def test_extremes_are_decoded_to_the_same_bits(page, folder):
    made, integers = network("plain-1.1")
    shapes = {name: each.values.shape for name, each in integers.items()}
    draw = np.random.default_rng(0)
    zeros = np.zeros(shapes["fire9_expand1x1"], np.int64)  # one symbol, which takes no bits
    integers["fire9_expand1x1"] = encoder.Integers(zeros, np.float32(0.5))
    wide = draw.integers(-32768, -32768 + decoder.MAX_SYMBOLS, shapes["fire9_expand3x3"])
    integers["fire9_expand3x3"] = encoder.Integers(wide, np.float32(1e-42))  # below the normal numbers
    biases = np.array([65504, -65504, 6e-8, -6e-8, 6.1e-5, -0.0, 1 / 3, 0, *draw.normal(size=504)], np.float32)
    made.layers["fire9_expand3x3"] = (made.layers["fire9_expand3x3"][0], biases[:256])
    content = encoder.encode(made, integers)
    assert decoded(page, folder, content) == as_decoded(decoder.decode(content))


def test_damage_is_refused_by_the_checksum(page, folder, encoded):
    content = encoded["simple-1.1"]
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    for damaged, message in [
        (b"", "it does not begin as a .sqz file does"),
        (content[:12], "it does not begin as a .sqz file does"),
        (content.replace(b"\r\n", b"\n", 1), "it does not begin as a .sqz file does"),
        (content[:-1], f"it has {len(content) - 1:,} bytes, and says that it has {len(content):,}"),
        (bytes(changed), "its checksum is wrong: it was changed or damaged"),
    ]:
        assert decoded(page, folder, damaged) == {"refused": message}
        with pytest.raises(Damaged, match=f"^{re.escape(message)}$"):
            decoder.decode(damaged)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (16, "<B", 2, "of version 2 of the format, and this decoder reads version 1"),
        (17, "<B", 7, "choice 7 of .*v1.0"),
        (18, "<B", 2, "choice 2 of .*elu"),
        (19, "<B", 3, "choice 3 of .*complex"),
        (20, "<B", 2, "header makes no sense"),
        (21, "<B", 2, "choice 2 of .*squash"),
        (22, "<B", 3, "choice 3 of .*bicubic"),
        (23, "<B", 2, "header makes no sense"),
        (24, "<H", 0, "images of 0 pixels"),
        (26, "<H", 0, "header makes no sense"),
        (26, "<H", 1, "pixels cut from 1"),
        (28, "<f", float("inf"), "means and deviations"),
        (40, "<f", 0.0, "means and deviations"),
        (52, "<H", 0xFFFF, "65535 classes"),
        (52, "<H", 4, "class names are not those of 4 classes"),
        (54, "<B", 0, "lists class names, and says that it does not"),
        (54, "<B", 1, "class names are not those of 3 classes"),
        (55, "<I", 1 << 31, "2147483648 bytes are due at byte 63, and it ends at"),
        (63, "<B", 0xFF, "not UTF-8"),
        ("layer", "<f", float("nan"), "a layer has a step of nan"),
        ("layer", "<f", -1.0, "a layer has a step of -1"),
        ("lowest", "<h", 32767, "a layer has a step"),
        ("symbols", "<H", 0, " 0 symbols"),
        ("symbols", "<H", 4097, " 4097 symbols"),
        ("tables", "<B", 9, "9 tables"),
        ("of channels", "<B", 8, "an input channel has a table that there is not"),
        ("frequencies", "<B", 0, "frequencies do not add up to 16,384"),
        ("frequencies", "<I", 0xFFFFFFFF, "a number has more than three bytes"),
        ("words", "<I", 0, "begins below its floor"),
    ],
)
def test_invalid_values_are_refused_as_in_python(page, folder, encoded, offset, layout, value, message):
    content = encoded["complex-1.1"]
    places = of_parts(content)
    damaged = bytearray(content)
    struct.pack_into(layout, damaged, places.get(offset, offset), value)
    refused(page, folder, with_checksum(bytes(damaged)), message)


def of_parts(content: bytes) -> dict[str, int]:
    """Where the first layer's numbers are that has several tables, and where the coder's states are."""
    reader = decoder._Reader(content, HEADER)
    reader.take(sum(struct.unpack_from("<II", content, HEADER - 8)))
    places: dict[str, int] = {}
    for shape in decoder.shapes("v1.1", "complex", len(NAMES)).values():
        layer = reader.place
        if content[layer + 8] > 1 and not places:
            frequencies = layer + 9 + shape[2]
            offsets = {"layer": 0, "lowest": 4, "symbols": 6, "tables": 8, "of channels": 9}
            places = {name: layer + offset for name, offset in offsets.items()} | {"frequencies": frequencies}
        decoder._Code(reader, shape)
    return places | {"words": reader.place}


def refused(page, folder: Path, content: bytes, message: str) -> None:
    """Both decoders refuse the content with this reason, in the same words; numbers are written differently."""
    with pytest.raises(Damaged, match=message) as error:
        decoder.decode(content)

    def words(text: str) -> list[str]:
        return re.findall(r"[a-z]+", text.lower().replace("infinity", "inf"))

    assert words(decoded(page, folder, content)["refused"]) == words(str(error.value))


@pytest.mark.parametrize(
    ("tail", "message"),
    [(b"\0", "an odd byte is left"), (b"\0\0", "do not end where it ends"), (None, "symbols end too early")],
)
def test_symbols_have_to_end_where_the_file_ends(page, folder, encoded, tail, message):
    content = encoded["plain-1.1"]
    refused(page, folder, with_checksum(content[:-2] if tail is None else content + tail), message)


def test_both_decoders_take_and_refuse_the_same_files(page, folder, encoded):
    content = encoded["complex-1.1"]
    headers = content[: of_parts(content)["words"] // 4]
    rng = random.Random(3)
    for _ in range(40):
        some = with_checksum(mutate(headers, rng) + content[len(headers) :])
        found = decoded(page, folder, some)
        try:
            assert found == as_decoded(decoder.decode(some))
        except Damaged:
            assert list(found) == ["refused"]


def keras_probabilities(stored: Contents, pixels: np.ndarray) -> np.ndarray:
    """Of pixels (size, size, 3)."""
    import keras

    shape = architecture.Network(
        stored.classes, stored.arch, stored.activation, False, stored.bypass, stored.conv10_padding, stored.image_size
    )
    model = models.build(
        shape, channel_means=stored.channel_means, channel_deviations=stored.channel_deviations, fixed_size=True
    )
    for name, weights in stored.layers.items():
        model.get_layer(name).set_weights(weights)
    return keras.ops.softmax(model(pixels[None]))[0].numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_that_of_keras(page, folder, encoded, name):
    (folder / "some.sqz").write_bytes(encoded[name])
    stored = decoder.decode(encoded[name])
    size = stored.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    expected = keras_probabilities(stored, pixels)
    assert expected.max() < 0.99  # else differences would not show
    found = page.evaluate(RUN, pixels.ravel().tolist())
    assert np.abs(np.array(found) - expected).max() < 1e-4


def test_images_too_small_for_the_pools_are_refused(page, folder, encoded):
    content = bytearray(encoded["plain-1.1"])
    struct.pack_into("<H", content, 24, 14)
    (folder / "some.sqz").write_bytes(with_checksum(bytes(content)))
    with pytest.raises(Exception, match="images of 14 pixels leave too little to pool after fire5"):
        page.evaluate(RUN, [0])


def photo_of(kind: str) -> dict:
    drawing = synthetic.draw(kind, synthetic.CLASSES.index(kind), seed=1)
    return {"name": f"{kind}.jpg", "mimeType": "image/jpeg", "buffer": drawing}


def show(page, photo: dict) -> None:
    page.set_input_files("#photo", photo)
    idle(page)


def check_answer(page, content: bytes, words: list[str]) -> None:
    """The shown answers are those of Keras for the shown pixels."""
    stored = decoder.decode(content)
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    expected = keras_probabilities(stored, seen_by(page))
    found = answers(page)
    assert len(found) == min(5, stored.classes) and next(iter(found)) == expected.argmax()
    assert answer_of(page) == words[expected.argmax()]
    for output, probability in found.items():
        assert probability == pytest.approx(expected[output], abs=1e-4)


def test_a_sqz_file_is_all_that_the_page_needs(browser, address, folder, encoded):
    import tensorflow as tf

    content, photo = encoded["complex-1.1"], photo_of("star")
    (folder / "complex-1.1.sqz").write_bytes(content)
    page = open_page(browser, address, "complex-1.1.sqz")
    assert page.is_hidden("#problem"), page.inner_text("#problem")
    size = f"{len(content):,} bytes downloaded, decoded in "
    assert re.fullmatch(rf"{size}\d+ ms", page.inner_text("#file-bytes"))
    assert page.inner_text("#about") == "complex-1.1: 3 classes, 1 file to run"
    assert "von nirgendwo ☃" in page.inner_text("#model")
    assert page.get_attribute("#file-intact", "data-state") == "passed"
    show(page, photo)
    check_answer(page, content, list(NAMES))
    contract = Preprocessing(64, 72, "squash", "bicubic", False)
    pixels = crop.preprocess_for_eval(tf.constant(photo["buffer"]), contract).numpy()
    assert np.abs(seen_by(page) - pixels.astype(int)).mean() <= 2
    assert re.fullmatch(r"complex-1.1.sqz, ONNX Runtime Web .*, WebAssembly, [\d.]+ ms", page.inner_text("#backend"))
    page.click("#backends summary")
    assert "a .sqz file has no recorded answers" in page.inner_text("#backend-list")
    page.close()


def test_files_of_this_machine_can_be_opened_one_after_the_other(browser, address, encoded):
    """Each network has its own preprocessing and its own classes."""
    words = {
        "plain-1.0": list(labels.imagenet().values()),
        "complex-1.0": [f"class {index}" for index in range(5)],
        "plain-1.1": ["tench", "goldfish"],
    }
    page = open_page(browser, address)
    assert page.inner_text("#problem").startswith("labels.txt cannot be loaded")
    page.set_input_files("#sqz", {"name": "broken.sqz", "mimeType": "", "buffer": encoded["plain-1.1"][:-1]})
    idle(page)
    assert page.inner_text("#problem").startswith("broken.sqz cannot be decoded: it has ")
    show(page, photo_of("house"))
    for name, expected in words.items():
        page.set_input_files("#sqz", {"name": f"{name}.sqz", "mimeType": "", "buffer": encoded[name]})
        idle(page)
        check_answer(page, encoded[name], expected)
        assert re.fullmatch(rf"{len(encoded[name]):,} bytes, decoded in \d+ ms", page.inner_text("#file-bytes"))
    before = answers(page)
    page.select_option("#file", "complex-1.0.sqz")
    idle(page)
    assert len(answers(page)) == 5
    page.select_option("#file", f"{name}.sqz")
    idle(page)
    assert answers(page) == before
    page.close()


def test_the_page_has_the_names_of_imagenets_classes(web):
    ours = Path(labels.__file__).with_name("imagenet_classes.txt")
    assert (web / ours.name).read_bytes() == ours.read_bytes()
