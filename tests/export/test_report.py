from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from sqznet.core import metrics
from sqznet.core.probabilities import Bin
from sqznet.export import advice, card, charts, formatting, report
from sqznet.weights.catalogue import CATALOGUE

LABELS = ("ball", "house <&> barn", "star | *night*")
SIZE = 8
BUDGET = 3_000_000
REFERENCE = {
    "data": "data/pictures",
    "split": "test",
    "n": 1234,
    "top1": 0.9,
    "top1_interval_95": (0.88, 0.92),
    "top5": 0.99,
    "top5_interval_95": (0.98, 0.995),
    "ece": 0.0345,
    "nll": 0.4321,
    "brier": 0.1234,
    "balanced_accuracy": 0.8642,
    "macro_f1": 0.8531,
    "reliability": [Bin(617, 0.75, 0.7), Bin(617, 0.95, 0.9)],
}
NOTHING_CHANGED = {"records": 0, "pairs": 0, "most_frequent": []}
CHANGES = {
    "model_int8.tflite": {"records": 50, "pairs": 2, "most_frequent": [[0, 1, 30], [1, 2, 20]]},
    "model_nchw.onnx": {
        "records": 355,
        "pairs": 10,
        "most_frequent": [[index % 3, (index + 1) % 3, 40 - index] for index in range(8)],
    },
}
CONFUSION = np.array([[400, 11, 0], [100, 300, 12], [0, 0, 411]])


def entry(format: str, quantize: str, size: int, **changes) -> dict:
    dtype = "uint8" if quantize == "int8" else "float32"
    proof = {
        **REFERENCE,
        "top1": 0.87,
        "top1_interval_95": (0.85, 0.89),
        "largest_difference": 0.0123,
        "top1_agreement": 0.965,
        "drop": 0.03,
        "drop_interval_95": (-0.001, 0.061),
        "changed_answers": NOTHING_CHANGED,
    }
    return {
        "format": format,
        "quantize": quantize,
        "bytes": size,
        "transfer": {"gzip": size // 2, "brotli": size // 3, "zstd": size // 3 + 1},
        "sha256": "0" * 64,
        "version": {"tflite": "TFLite schema 3", "onnx": "ONNX opset 17, IR 8"}[format],
        "input": {
            "name": "image", "dtype": dtype, "shape": [1, SIZE, SIZE, 3], "layout": "NHWC", "range": [0, 255],
            "colour_order": "RGB",
        },
        "output": {
            "name": "probabilities", "dtype": dtype, "shape": [1, 3], "scale": 1 / 256 if dtype == "uint8" else 1.0,
            "zero_point": 0,
        },
        "proof": proof,
        "latency": {
            "1": {"median_ms": 4.56, "p90_ms": 5.67}, "2": {"median_ms": 3.45, "p90_ms": 4.32}, "peak_mib": 21.9,
        },
        **changes,
    }  # fmt: skip


MANIFEST = {
    "sqznet": "0.2.0",
    "classes": ["ball", "house", "star"],
    "data": "data/pictures",
    "pretrained_on": None,
    "weights": None,
    "preprocessing": {
        "image_size": SIZE,
        "resize_to": 10,
        "colour_order": "RGB",
        "range": [0, 255],
        "steps": "cut <it>",
    },
    "model_sha256": "abc123",
    "labels": {"file": "labels.txt", "sha256": "0" * 64},
    "converters": {"tensorflow": "2.21.0"},
    "calibration": {"data": "data/pictures", "split": "train", "records": 128},
    "files": {
        "model_nchw.onnx": entry(
            "onnx",
            "none",
            2_800_000,
            input={"name": "image", "dtype": "float32", "shape": [None, 3, SIZE, SIZE], "layout": "NCHW"},
        ),
        "model_int8.tflite": entry("tflite", "int8", 700_000),
        "model.tflite": entry("tflite", "none", 2_900_000),
    },
}
for file_name, changes in CHANGES.items():
    MANIFEST["files"][file_name]["proof"]["changed_answers"] = changes
PUBLISHED = {"file": "net.caffemodel", "sha256": "f" * 64, "format": "caffemodel"}


def changed(**changes) -> dict:
    return {**copy.deepcopy(MANIFEST), **changes}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The golden inputs and outputs of a bundle, as an export writes them."""
    from PIL import Image

    made = tmp_path / "tiny<&>"
    (made / "golden" / "expected").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(made / "golden" / f"{number}.png")
    float_answers = np.tile(np.array([[0.7, 0.2, 0.1]], "<f4"), (8, 1))
    steps = np.tile(np.array([[26, 51, 179]], np.uint8), (8, 1))
    expected = {}
    for name, answers in (("model.tflite", float_answers), ("model_int8.tflite", steps)):
        (made / "golden" / "expected" / f"{name}.bin").write_bytes(answers.tobytes())
        expected[name] = {"file": f"expected/{name}.bin", "dtype": answers.dtype.name, "shape": [8, 3]}
    (made / "golden" / "golden.json").write_text(
        json.dumps({"count": 8, "labels": [0, 0, 0, 1, 1, 2, 2, 2], "expected": expected})
    )
    return made


def write_report(folder: Path, manifest: dict = MANIFEST, budget: int = BUDGET, curve: Path | None = None) -> str:
    report.write(folder, manifest, LABELS, budget, REFERENCE, CONFUSION, curve)
    return (folder / "report.html").read_text()


def write_card(folder: Path, manifest: dict = MANIFEST) -> str:
    card.write(folder, manifest, LABELS, REFERENCE)
    return (folder / "MODEL_CARD.md").read_text()


class Words(HTMLParser):
    """The text of a page, and whether its elements are closed in order."""

    VOID = ("meta", "img", "line", "circle", "rect")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.parts: list[str] = []
        self.feed(content)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.parts.append(data)


def test_the_report_shows_every_figure(folder):
    text = Words(write_report(folder)).text
    for shown in (
        "2,900,000 bytes (2.900 MB, 2.766 MiB)",  # size
        "budget 3,000,000 bytes",
        "90.00 % (1,111 of 1,234; 88.00 to 92.00)",  # accuracy of the model and of a file
        "87.00 % (1,074 of 1,234; 85.00 to 89.00)",
        "96.50 % (1,191 of 1,234)",  # same answers
        "3.00 (-0.10 to 6.10)",  # loss
        "1.2e-02",  # largest difference
        "1,234 records of data/pictures, test",
        "4.56 / 3.45 ms",  # latency
        "4.56 / 5.67",
        "21.9",
        "Of 1,234 answers, none changed in model.tflite.",
        "50 of 1,234 answers (4.05 %)",
        "0.00390625 x value",  # ports
        "nx3x8x8 (NCHW)",
        "image, uint8",
        "128 records of data/pictures, train",
        "abc123",
        "tensorflow 2.21.0",
        "--check=FOLDER",
    ):
        assert shown in text, shown
    for name in MANIFEST["files"]:
        assert text.count(name) >= 4, name


def test_only_the_most_frequent_changes_are_listed(folder):
    text = Words(write_report(folder)).text
    assert "355 of 1,234 answers" in text and "and 63 in 2 other pairs" in text
    assert " 33 " in text and " 32 and" not in text


def test_names_and_texts_are_escaped(folder):
    content = write_report(folder)
    words = Words(content)
    assert words.open == []
    for escaped in ("house &lt;&amp;&gt; barn", "tiny&lt;&amp;&gt;", "Cut &lt;it&gt;"):
        assert escaped in content
    assert "<&>" not in content and "<it>" not in content
    assert "house <&> barn" in words.text and "tiny<&>" in words.text


def test_the_report_fetches_and_runs_nothing(folder):
    words = Words(write_report(folder))
    addresses = [value for _, name, value in words.attributes if name in ("src", "href", "xlink:href", "data")]
    assert len(addresses) == 8 and all(value.startswith("data:image/png;base64,") for value in addresses)
    content = (folder / "report.html").read_text()
    assert not re.search(r"https?://|<script|<link|@import|url\(|\son[a-z]+=", content)


def test_the_same_bundle_gives_the_same_bytes(folder):
    shuffled = changed(files=dict(reversed(MANIFEST["files"].items())))
    assert write_report(folder) == write_report(folder, shuffled)
    assert write_card(folder) == write_card(folder, shuffled)


def test_an_unfinished_folder_has_the_name_of_the_finished_one(folder):
    unfinished = folder.rename(folder.with_name(".tmp-123-tiny"))
    assert "<h1>tiny</h1>" in write_report(unfinished)
    assert "\n# tiny\n" in write_card(unfinished)


def test_samples_are_marked_right_and_wrong(folder):
    text = Words(write_report(folder)).text
    assert "the answers of model.tflite" in text
    assert text.count("✓ right") == 3 and text.count("✗ taken for ball") == 5
    assert "ball 70.0 % house <&> barn 20.0 % star | *night* 10.0 %" in text


def test_top_5_of_three_classes_is_left_out(folder):
    assert "top-5" not in write_report(folder) + write_card(folder)
    many = changed(classes=[*map(str, range(6))])
    card.write(folder, many, tuple(many["classes"]), REFERENCE)
    assert "| top-5 (rank-5) | 99.00 % (1,222 of 1,234; 98.00 to 99.50) |" in (folder / card.FILE).read_text()


def test_the_report_says_which_file_to_take_and_why(folder):
    text = Words(write_report(folder)).text
    assert (
        "Take model_int8.tflite for phones: Android and iOS, with LiteRT or MediaPipe. It is the smallest of 2 TFLite "
        "files (0.70 MB), gives the same answer as the Keras model on 1,191 of 1,234 records, and loses 3.00 points of "
        "top-1, 37 of 1,234 records (95 % interval of the loss -0.10 to 6.10 points)."
    ) in text
    better = changed()
    better["files"]["model.tflite"]["proof"] |= {"drop": 0.0, "drop_interval_95": (-0.01, 0.01)}
    assert "If that is too much, take model.tflite (2.90 MB): it loses no top-1" in write_report(folder, better)


def test_of_files_of_similar_size_the_fastest_is_recommended():
    quick = {"1": {"median_ms": 1.0, "p90_ms": 1.0}, "peak_mib": 1.0}
    files = [("slow.tflite", entry("tflite", "dynamic", 700)), ("quick.tflite", entry("tflite", "int8", 720))]
    files[1][1]["latency"] = quick
    files.append(("large.tflite", entry("tflite", "none", 2900, latency=quick)))
    name, _ = advice.recommended(files)["tflite"]
    assert name == "quick.tflite"


def test_the_confusion_matrix_and_the_classes_have_their_counts(folder):
    text = Words(write_report(folder)).text
    assert "1,111 of 1,234 right" in text
    assert "ball 400 11 411 house <&> barn 100 300 12 412" in text
    assert re.search(r"house <&> barn 72\.82 % \(300 of 412; 68\.\d\d to 76\.\d\d\) ball \(100\)", text)


def test_of_many_classes_the_most_frequent_confusions_are_listed(folder):
    counts = np.diag(np.full(50, 20))
    counts[7, 3], counts[8, 3], counts[9, 9] = 12, 2, 3
    report.write(folder, MANIFEST, tuple(f"class {each}" for each in range(50)), BUDGET, REFERENCE, counts)
    text = Words((folder / report.FILE).read_text()).text
    assert "confusions: true taken for records class 7 class 3 12 of 32 class 8 class 3 2 of 22" in text
    assert "The 20 worst of 49 classes with 10 records or more: class top-1" in text
    assert "class 7 62.50 % (20 of 32;" in text and "class 9 " not in text


def test_classes_without_confusions_are_reported_as_such(folder):
    report.write(folder, MANIFEST, tuple(map(str, range(50))), BUDGET, REFERENCE, np.diag(np.full(50, 3)))
    text = Words((folder / report.FILE).read_text()).text
    assert "No two classes are confused." in text and "No class has 10 records or more" in text


def test_the_report_and_the_card_have_the_measures_of_the_probabilities(folder):
    measures = ["3.45 %", "0.4321", "0.1234", "86.42 %", "85.31 %"]
    assert " | ".join(["Keras model", *measures]) in write_card(folder)
    content = write_report(folder)
    assert "".join(f"<td>{each}</td>" for each in ["Keras model", *measures]) in content
    dots = re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)" r="5"/>', content)
    assert dots == [("225.0", "90.0"), ("285.0", "30.0")]  # 300 pixels are 100 %, and y points down


def test_the_report_and_the_card_say_whether_the_probabilities_were_calibrated(folder):
    assert "They were not calibrated" in write_report(folder) and "They were not calibrated" in write_card(folder)
    fitted = changed(temperature={"value": 1.25, "split": "val", "records": 1234, "records_sha256": "0" * 64})
    for content in (write_report(folder, fitted), write_card(folder, fitted)):
        assert "by the temperature 1.2500, which was fitted on 1,234 records of val" in content
        assert "not calibrated" not in content and "on the same records: on other records" not in content
    for each in fitted["files"].values():
        each["proof"]["records_sha256"] = "0" * 64
    assert "measured on the same records: on other records the calibration error may be" in write_card(folder, fitted)


def test_the_curve_of_the_run_is_in_the_report(folder):
    curve = folder / "golden" / "0.png"
    assert "Loss and accuracy of the run" in write_report(folder, curve=curve)
    assert "Loss and accuracy of the run" not in write_report(folder)


def test_too_few_records_for_the_allowed_loss_give_a_warning(folder):
    warned = changed(gate={"max_drop": 0.005, "warning": metrics.too_few_records(28, 28, 0.005)})
    for content in (write_report(folder, warned), write_card(folder, warned)):
        assert "28 records cannot show a loss of 0.5 points: one record is 3.57 points" in content


def test_samples_of_an_int8_file_are_probabilities_too(folder):
    only = changed(files={"model_int8.tflite": MANIFEST["files"]["model_int8.tflite"]})
    text = Words(write_report(folder, only)).text
    assert "the answers of model_int8.tflite" in text and "star | *night* 69.9 %" in text


def test_files_over_the_budget_are_named(folder):
    assert "every file is within it" in Words(write_report(folder)).text
    assert "over the budget: model.tflite." in Words(write_report(folder, budget=2_850_000)).text


def test_without_latency_there_is_no_section_on_speed(folder):
    manifest = changed()
    for each in manifest["files"].values():
        del each["latency"]
    text = Words(write_report(folder, manifest)).text
    assert "Speed" not in text and "latency" not in text


def test_a_model_of_published_weights_comes_with_a_warning(folder):
    manifest = changed(pretrained_on="ImageNet (ILSVRC 2012) train", weights=PUBLISHED)
    for content in (Words(write_report(folder, manifest)).text, write_card(folder, manifest)):
        assert (
            "weights that were trained on ImageNet (ILSVRC 2012) train. Accuracy on photographs of that set" in content
        )
    assert "Accuracy on photographs of that set" not in write_report(folder) + write_card(folder)


def test_the_card_has_figures_with_n_and_intervals_and_limits(folder):
    content = write_card(folder)
    for shown in (
        "# tiny\\<\\&\\>",
        "## Intended use and limits",
        "Not for decisions about people",
        "| top-1 (rank-1) | 90.00 % (1,111 of 1,234; 88.00 to 92.00) |",
        "| `model.tflite` | TFLite, float32 | 2,900,000 | 87.00 % (1,074 of 1,234; 85.00 to 89.00) | "
        "3.00 (-0.10 to 6.10) | 96.50 % (1,191 of 1,234) |",
        "**Take model\\_int8.tflite for phones",
        "trained from scratch with sqznet on data/pictures",
        "128 records of data/pictures, train",
        "| `model_int8.tflite` | TFLite schema 3 | image, uint8, 1x8x8x3 (NHWC) | probabilities, uint8, 1x3 |",
        "whoever trained them chooses the licence",
        "python -m sqznet.export --check=FOLDER",
        "star \\| \\*night\\*",
    ):
        assert shown in content, shown
    assert content.count("\n---\n") == 1  # the end of the header


def header(content: str) -> dict:
    """The metadata that model hubs read."""
    start, text, _ = content.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(text)


def test_the_card_starts_with_the_metadata_of_model_hubs(folder):
    found = header(write_card(folder))
    assert {"library_name": "sqznet", "pipeline_tag": "image-classification", "metrics": ["accuracy"]}.items() <= (
        found.items()
    )
    assert found["tags"] == ["squeezenet", "image-classification", "tflite", "onnx"]
    (model,) = found["model-index"]
    (results,) = model["results"]
    assert model["name"] == "tiny<&>" and results["task"] == {"type": "image-classification"}
    assert results["dataset"] == {"name": "data/pictures", "type": "data/pictures", "split": "test"}
    assert results["metrics"][:2] == [
        {"type": "accuracy", "name": "top-1 of the Keras model, 1,234 records", "value": 0.9},
        {"type": "accuracy", "name": "top-1 of model.tflite, 1,234 records", "value": 0.87},
    ]


HOSTILE = "x: \"y\" 'z' # - [a] {b} \\ & *c !d |\n---\nlicense: mit\t\x00\x85\u2028\ufeff é 🦜"


def test_names_cannot_break_the_metadata_of_model_hubs(folder):
    manifest = changed(weights={**PUBLISHED, "licence": HOSTILE})
    card.write(folder, manifest, LABELS, {**REFERENCE, "data": HOSTILE, "split": "- no"})
    found = header((folder / "MODEL_CARD.md").read_text())
    (results,) = found["model-index"][0]["results"]
    assert results["dataset"] == {"name": HOSTILE, "type": HOSTILE, "split": "- no"}
    assert (found["license"], found["license_name"]) == ("other", HOSTILE)


@pytest.mark.parametrize(
    ("weights", "licence"),
    [
        (None, None),
        ({**PUBLISHED, "licence": "BSD-2-Clause"}, "bsd-2-clause"),
        ({**PUBLISHED, "licence": "none stated"}, "unknown"),
        (PUBLISHED, "unknown"),
    ],
)
def test_model_hubs_get_the_licence_only_if_it_is_known(folder, weights, licence):
    assert header(write_card(folder, changed(weights=weights))).get("license") == licence


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (
            None,
            "not stated; the weights were trained from scratch with sqznet, so whoever trained them chooses the "
            "licence, and the licence of the photographs may limit the choice",
        ),
        ({**PUBLISHED, "licence": "BSD-2-Clause"}, "BSD-2-Clause, the licence of the published weights"),
        (PUBLISHED, "not known; the published weights were given as a file, so ask where that file came from"),
        ({**PUBLISHED, "licence": "none stated"}, "the authors of the published weights state none"),
        (
            {**PUBLISHED, "sha256": CATALOGUE["squeezenet-v1.1"].sha256},
            "BSD-2-Clause, the licence of the published weights",
        ),
    ],
)
def test_the_licence_is_that_of_the_weights(weights, text):
    assert formatting.licence(weights) == text


@pytest.mark.parametrize(
    ("data", "weights", "text"),
    [
        ("data/a", None, "trained from scratch with sqznet on data/a"),
        (None, PUBLISHED, "published weights (net.caffemodel), unchanged"),
        ("data/a", PUBLISHED, "fine-tuned with sqznet on data/a, from published weights (net.caffemodel)"),
        (
            None,
            {**PUBLISHED, "url": "https://example.org/net"},
            "published weights (net.caffemodel, from https://example.org/net), unchanged",
        ),
    ],
)
def test_the_origin_names_data_and_weights(data, weights, text):
    assert formatting.origin(changed(data=data, weights=weights)) == text


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.93, 0.977, [0.92, 0.94, 0.96, 0.98]),
        (0.9, 0.98, [0.9, 0.92, 0.94, 0.96, 0.98]),
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.999, 1.0, [0.999, 0.9995, 1.0]),
        (1.0, 1.0, [0.9999, 1.0]),
        (0.0, 0.0, [0.0, 0.0001]),
    ],
)
def test_an_axis_has_a_few_round_numbers(low, high, ticks):
    assert charts.axis(low, high) == pytest.approx(ticks)
