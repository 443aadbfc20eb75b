from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sqznet.export import constants
from sqznet.images import crop
from sqznet.images.preprocessing import DECODING, Preprocessing

KITS = Path(__file__).parents[2] / "sqznet" / "export" / "kits"
SOURCES = sorted([*KITS.glob("android/*.kt"), *KITS.glob("ios/*.swift")])
WRITERS = {".kt": constants.kotlin, ".swift": constants.swift}

HOSTILE = 'a "quoted" $price ${code} \\(code) back\\slash\nnew line\t\x00\x7f é 🦜 \u2028'


def port(dtype: str, layout: str, batch: int | None) -> dict:
    shape = [batch, 224, 224, 3] if layout == "NHWC" else [batch, 3, 224, 224]
    return {"name": "image", "dtype": dtype, "shape": shape, "layout": layout}


def entry(format_name: str, quantize: str, dtype: str, layout: str, batch: int | None) -> dict:
    scale = 1 / 256 if dtype == "uint8" else 1.0
    return {
        "format": format_name,
        "quantize": quantize,
        "bytes": 2_500_000 + len(quantize),
        "sha256": {"saved_model.pb": "00"} if format_name == "savedmodel" else quantize[0] * 64,
        "input": port(dtype, layout, batch),
        "output": {"name": "probabilities", "dtype": dtype, "shape": [batch, 3], "scale": scale, "zero_point": 0},
    }


MANIFEST = {
    "sqznet": "1.2.3",
    "classes": ["n01", "n02", "n03"],
    "model_sha256": "c" * 64,
    "labels": {"file": "labels.txt", "sha256": "1" * 64},
    "preprocessing": {
        "image_size": 224,
        "resize_to": 256,
        "resize": "short",
        "interpolation": "bicubic",
        "antialias": True,
        "colour_order": "RGB",
        **DECODING,
    },
    "files": {
        "savedmodel": entry("savedmodel", "none", "float32", "NHWC", None),
        "model.tflite": entry("tflite", "none", "float32", "NHWC", 1),
        "model_int8.tflite": entry("tflite", "int8", "uint8", "NHWC", 1),
        "model_nchw.onnx": entry("onnx", "none", "float32", "NCHW", None),
    },
}
MAPS = {"name": "class_map", "dtype": "float32", "shape": [1, 14, 14, 3], "side": 14, "stride": 16.0, "offset": 15.5}
MANIFEST["files"]["model_int8.tflite"]["class_map"] = MAPS
GOLDEN = {"expected": {"model.tflite": {"tolerance": 1e-5}, "model_int8.tflite": {"tolerance": 0.05}}}


@pytest.fixture(params=WRITERS, ids=["kotlin", "swift"])
def source(request) -> str:
    return WRITERS[request.param](MANIFEST, GOLDEN)


def constants_of(source: str) -> dict:
    """The constants of the source, with names as words: {"image size": 224}."""
    found = re.findall(r"^    (?:const val|static let) (\w+): (?:String|Int|Double|Bool|Boolean) = (.+)$", source, re.M)
    return {re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower(): json.loads(value) for name, value in found}


def model_files(source: str) -> dict[str, dict]:
    """The fields of each ModelFile."""
    files = {}
    for call in re.findall(r"^        ModelFile\(\n(.+?)\n        \)", source, re.M | re.S):
        fields = dict(re.findall(r"^            (\w+)(?:: | = )(.+?),?$", call, re.M))
        as_json = {name: re.sub(r"^listOf\((.*)\)$", r"[\1]", value) for name, value in fields.items()}
        values = {name: json.loads("null" if value == "nil" else value) for name, value in as_json.items()}
        files[values["name"]] = values
    return files


def test_the_constants_are_those_of_the_manifest(source):
    assert constants_of(source) == {
        "sqznet version": "1.2.3",
        "model sha256": "c" * 64,
        "resize": "short",
        "interpolation": "bicubic",
        "colour order": "RGB",
        "colour space": "sRGB",
        "orientation": "applied",
        "transparency": "white",
        "labels": "labels.txt",
        "labels sha256": "1" * 64,
        "image size": 224,
        "resize to": 256,
        "classes": 3,
        "antialias": True,
        "threshold": 0.0,
    }
    assert "c" * 64 in source.splitlines()[1]
    assert "Generated" in source and "Do not edit" in source


@pytest.mark.parametrize("write", WRITERS.values())
def test_the_threshold_for_not_sure_is_that_of_the_manifest(write):
    source = write({**MANIFEST, "threshold": {"value": 0.85, "min_precision": 0.98}}, GOLDEN)
    assert constants_of(source)["threshold"] == 0.85


def test_each_file_that_a_phone_loads_is_there_with_its_ports(source):
    files = model_files(source)
    assert list(files) == ["model.tflite", "model_int8.tflite", "model_nchw.onnx"]
    for name, fields in files.items():
        expected = MANIFEST["files"][name]
        for field in ("format", "quantize", "bytes", "sha256"):
            assert fields[field] == expected[field]
        for side in ("input", "output"):
            assert fields[f"{side}Name"] == expected[side]["name"]
            assert fields[f"{side}Type"] == expected[side]["dtype"]
            assert [None if n == -1 else n for n in fields[f"{side}Shape"]] == expected[side]["shape"]
        assert fields["inputLayout"] == expected["input"]["layout"]
        assert (fields["outputScale"], fields["outputZeroPoint"]) == (expected["output"]["scale"], 0)
        maps = expected.get("class_map", {})
        for field in ("shape", "side", "stride", "offset"):
            assert fields[f"classMap{field.capitalize()}"] == maps.get(field)
        assert fields["tolerance"] == GOLDEN["expected"].get(name, {}).get("tolerance")


def test_a_bundle_without_golden_has_no_tolerances():
    for write in WRITERS.values():
        assert {fields["tolerance"] for fields in model_files(write(MANIFEST)).values()} == {None}


@pytest.mark.parametrize(
    ("text", "kotlin", "swift"),
    [
        ("plain é 🦜", '"plain é 🦜"', '"plain é 🦜"'),
        ('say "hi"', r'"say \"hi\""', r'"say \"hi\""'),
        ("C:\\new", r'"C:\\new"', r'"C:\\new"'),
        ("$name ${1+1}", r'"\$name \${1+1}"', '"$name ${1+1}"'),
        ("\\(name)", r'"\\(name)"', r'"\\(name)"'),
        ("a\nb\tc\rd", r'"a\nb\tc\rd"', r'"a\nb\tc\rd"'),
        ("\0\x7f\u2028", r'"\u0000\u007f\u2028"', r'"\u{0}\u{7f}\u{2028}"'),
        ("\U000e0041", r'"\udb40\udc41"', r'"\u{e0041}"'),
    ],
)
def test_strings_are_escaped_for_each_language(text, kotlin, swift):
    assert constants.kotlin_string(text) == kotlin
    assert constants.swift_string(text) == swift


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_kits_use_only_what_is_generated(path):
    generated = WRITERS[path.suffix](MANIFEST, GOLDEN)
    declared = set(re.findall(r"^    (?:const val|val|fun|static let|static func) (\w+)", generated, re.M))
    declared_fields = set(re.findall(r"^    (?:val|let) (\w+):", generated, re.M))
    text = path.read_text()
    assert set(re.findall(r"ModelContract\.(\w+)", text)) <= declared
    fields = set(re.findall(r"(?<![\w.])model\.(\w+)", text)) - {"tflite"}  # "model.tflite" is a name
    assert fields <= declared_fields


def syntax_errors(suffix: str, source: str) -> list[str]:
    tree_sitter = pytest.importorskip("tree_sitter", reason="needs tree-sitter, which parses the sources of the kits")
    grammars = {".kt": "tree_sitter_kotlin", ".swift": "tree_sitter_swift"}
    grammar = pytest.importorskip(grammars[suffix], reason="needs the grammar, which parses the sources of the kits")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    nodes, errors = [parser.parse(source.encode()).root_node], []
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.is_error or node.is_missing:
            errors.append(f"line {node.start_point[0] + 1}: {node.type}")
    return errors


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_kits_have_no_syntax_errors(path):
    assert syntax_errors(path.suffix, path.read_text()) == []


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_generated_source_has_no_syntax_errors_whatever_the_manifest_says(suffix):
    hostile = {**MANIFEST, "sqznet": HOSTILE, "files": {HOSTILE: MANIFEST["files"]["model.tflite"]}}
    assert syntax_errors(suffix, WRITERS[suffix](hostile, GOLDEN)) == []
    assert syntax_errors(suffix, "func ((") != []


def drawn_as_tensorflow_resizes_it(preprocessing: Preprocessing) -> list[int]:
    """The expected values of resizeIsExact: the picture that both kits compute, resized as in training."""
    y, x, colour = np.mgrid[:17, :23, :3]
    drawn = ((x * 9 + y * 4 + colour * 30 + x % 3 * (y % 2) * 40) % 256).astype(np.uint8)
    return crop.preprocess_for_eval(drawn, preprocessing).numpy().ravel().tolist()


@pytest.mark.parametrize("path", [path for path in SOURCES if path.stem == "ResizeCheck"], ids=lambda path: path.name)
def test_the_kits_expect_the_pixels_of_tensorflow(path):
    numbers = re.findall(r"^(?:private )(?:val|let) (\w+).*[\[(]\n((?:[ \d,]+\n)+)", path.read_text(), re.M)
    expected = {
        name.lower().replace("_", ""): [int(number) for number in re.findall(r"\d+", text)] for name, text in numbers
    }
    assert expected == {
        "bilinear": drawn_as_tensorflow_resizes_it(Preprocessing(4, 5, "short", "bilinear")),
        "bicubic": drawn_as_tensorflow_resizes_it(Preprocessing(4, 5, "squash", "bicubic")),
        "plainbilinear": drawn_as_tensorflow_resizes_it(Preprocessing(4, 5, "squash", "bilinear", antialias=False)),
        "plainbicubic": drawn_as_tensorflow_resizes_it(Preprocessing(4, 5, "short", "bicubic", antialias=False)),
    }
