"""The contract of a bundle as source code, so that an app cannot disagree with the files it ships.

ModelContract.kt and ModelContract.swift hold what manifest.json says of the preprocessing and of each model file that a
phone can load, and the tolerances of golden.json. The kits (kits/android, kits/ios) are written against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FOR_SERVERS = "savedmodel"  # a folder, which no phone loads
ANY = -1  # a free dimension, null in the manifest


@dataclass(frozen=True)
class _Language:
    """How a language spells what differs between the two."""

    header: str  # what precedes the constants; MODEL stands for the model's sha256
    footer: str
    mark: str  # between the name of an argument and its value
    string: Callable[[str], str]
    constant: Callable[[str, str, str], str]  # (name of words in lower case, type, value) to a line
    files: Callable[[list[str]], str]
    nothing: str  # no value
    array: Callable[[list[int]], str]


def kotlin(manifest: dict[str, Any], golden: dict[str, Any] | None = None) -> str:
    """ModelContract.kt of a bundle.

    Args:
        manifest: the content of manifest.json.
        golden: the content of golden.json; None where the bundle has no golden/.
    """
    return _source(_KOTLIN, manifest, golden)


def swift(manifest: dict[str, Any], golden: dict[str, Any] | None = None) -> str:
    """ModelContract.swift of a bundle; see `kotlin`."""
    return _source(_SWIFT, manifest, golden)


def kotlin_string(text: str) -> str:
    """A string literal of Kotlin."""
    return _quoted(text, {"$": "\\$"}, lambda unit: f"\\u{unit:04x}", utf16=True)


def swift_string(text: str) -> str:
    """A string literal of Swift. Its interpolation `\\(` starts with a backslash, which is doubled."""
    return _quoted(text, {}, lambda point: f"\\u{{{point:x}}}", utf16=False)


def _quoted(text: str, special: dict[str, str], escape: Callable[[int], str], utf16: bool) -> str:
    """Quotes text; what does not print is written as numbers, so that no line of the source breaks."""
    special = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", **special}

    def spell(character: str) -> str:
        if character in special or character.isprintable():
            return special.get(character, character)
        if not utf16:
            return escape(ord(character))
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(escape(int.from_bytes(units[at : at + 2], "big")) for at in range(0, len(units), 2))

    return '"' + "".join(map(spell, text)) + '"'


def _source(language: _Language, manifest: dict[str, Any], golden: dict[str, Any] | None) -> str:
    tolerances = {name: entry["tolerance"] for name, entry in (golden or {}).get("expected", {}).items()}
    entries = {name: entry for name, entry in manifest["files"].items() if entry["format"] != FOR_SERVERS}
    constants = "".join(language.constant(*each) for each in _constants(language, manifest))
    files = [_file(language, name, entry, tolerances.get(name)) for name, entry in entries.items()]
    header = language.header.replace("MODEL", language.string(manifest["model_sha256"]))
    return header + constants + language.files(files) + language.footer


def _constants(language: _Language, manifest: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(Name, type, value) of what is the same for every file."""
    preprocessing, labels = manifest["preprocessing"], manifest["labels"]
    texts = {
        "sqznet version": manifest["sqznet"],
        "model sha256": manifest["model_sha256"],
        "resize": preprocessing["resize"],
        "interpolation": preprocessing["interpolation"],
        "colour order": preprocessing["colour_order"],
        "colour space": preprocessing["colour_space"],
        "orientation": preprocessing["orientation"],
        "transparency": preprocessing["transparency"],
        "labels": labels["file"],
        "labels sha256": labels["sha256"],
    }
    numbers = {
        "image size": preprocessing["image_size"],
        "resize to": preprocessing["resize_to"],
        "classes": len(manifest["classes"]),
    }
    return [
        *((name, "String", language.string(text)) for name, text in texts.items()),
        *((name, "Int", str(int(number))) for name, number in numbers.items()),
        ("antialias", "Bool", "true" if preprocessing["antialias"] else "false"),
    ]


def _file(language: _Language, name: str, entry: dict[str, Any], tolerance: float | None) -> str:
    """The arguments of one ModelFile, in the order of its fields."""
    ports = entry["input"], entry["output"]
    string, shapes = language.string, [[ANY if side is None else int(side) for side in port["shape"]] for port in ports]
    arguments = {
        "name": string(name),
        "format": string(entry["format"]),
        "quantize": string(entry["quantize"]),
        "sha256": string(entry["sha256"]),
        "bytes": str(int(entry["bytes"])),
        "inputName": string(ports[0]["name"]),
        "inputType": string(ports[0]["dtype"]),
        "inputShape": language.array(shapes[0]),
        "inputLayout": string(ports[0]["layout"]),
        "outputName": string(ports[1]["name"]),
        "outputType": string(ports[1]["dtype"]),
        "outputShape": language.array(shapes[1]),
        "outputScale": repr(float(ports[1]["scale"])),
        "outputZeroPoint": str(int(ports[1]["zero_point"])),
        "tolerance": language.nothing if tolerance is None else repr(float(tolerance)),
    }
    return "".join(f"            {field}{language.mark}{value},\n" for field, value in arguments.items())


def _kotlin_constant(name: str, kind: str, value: str) -> str:
    kinds = {"Bool": "Boolean"}
    return f"    const val {name.upper().replace(' ', '_')}: {kinds.get(kind, kind)} = {value}\n"


def _swift_constant(name: str, kind: str, value: str) -> str:
    first, *others = name.split()
    return f"    static let {first}{''.join(map(str.capitalize, others))}: {kind} = {value}\n"


def _kotlin_files(files: list[str]) -> str:
    calls = "".join(f"        ModelFile(\n{arguments}        ),\n" for arguments in files)
    return f"\n    val FILES: List<ModelFile> = listOf(\n{calls}    )\n"


def _swift_files(files: list[str]) -> str:
    # Unlike Kotlin, Swift takes no comma after the last argument (before version 6.1).
    calls = "".join(f"        ModelFile(\n{arguments.rstrip().rstrip(',')}\n        ),\n" for arguments in files)
    return f"\n    static let files: [ModelFile] = [\n{calls}    ]\n"


_KOTLIN = _Language(
    header="""\
// Generated by python -m sqznet.export from manifest.json, for the model of sha256
// MODEL.
// Do not edit: export again, and replace this file and the model files together.

package sqznet

/** One model file of the bundle. The probability of class i is outputScale * (value i - outputZeroPoint). */
data class ModelFile(
    val name: String,
    val format: String,
    val quantize: String,
    val sha256: String,
    val bytes: Long,
    val inputName: String,
    val inputType: String, // float32 or uint8, both 0..255
    val inputShape: List<Int>, // -1 is any number
    val inputLayout: String, // NHWC or NCHW
    val outputName: String,
    val outputType: String,
    val outputShape: List<Int>,
    val outputScale: Double,
    val outputZeroPoint: Int,
    val tolerance: Double?, // of the golden self-test; null where there is none
)

object ModelContract {
""",
    footer="""
    /** The file of that name, for example "model.tflite". */
    fun file(name: String): ModelFile =
        requireNotNull(FILES.find { it.name == name }) { "the bundle has no $name, but ${FILES.map { it.name }}" }
}
""",
    mark=" = ",
    string=kotlin_string,
    constant=_kotlin_constant,
    files=_kotlin_files,
    nothing="null",
    array=lambda numbers: f"listOf({', '.join(map(str, numbers))})",
)

_SWIFT = _Language(
    header="""\
// Generated by python -m sqznet.export from manifest.json, for the model of sha256
// MODEL.
// Do not edit: export again, and replace this file and the model files together.

/// One model file of the bundle. The probability of class i is outputScale * (value i - outputZeroPoint).
struct ModelFile: Sendable {
    let name: String
    let format: String
    let quantize: String
    let sha256: String
    let bytes: Int
    let inputName: String
    let inputType: String  // float32 or uint8, both 0...255
    let inputShape: [Int]  // -1 is any number
    let inputLayout: String  // NHWC or NCHW
    let outputName: String
    let outputType: String
    let outputShape: [Int]
    let outputScale: Double
    let outputZeroPoint: Int
    let tolerance: Double?  // of the golden self-test; nil where there is none
}

enum ModelContract {
""",
    footer="""
    /// The file of that name, for example "model.tflite"; nil where the bundle has none.
    static func file(_ name: String) -> ModelFile? {
        return files.first { $0.name == name }
    }
}
""",
    mark=": ",
    string=swift_string,
    constant=_swift_constant,
    files=_swift_files,
    nothing="nil",
    array=lambda numbers: f"[{', '.join(map(str, numbers))}]",
)
