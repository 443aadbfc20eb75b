"""Writes the contract of a bundle as source code, so that an app and the files that it ships always agree.

ModelContract.kt and ModelContract.swift hold the preprocessing and the model files of manifest.json that a phone can
load, and the tolerances of golden.json. The kits (kits/android, kits/ios) use them. The sources are the templates
ModelContract.kt.j2 and ModelContract.swift.j2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqznet.export import rendering

FOR_SERVERS = "savedmodel"  # a folder, which no phone loads
MAP_FIELDS = ("shape", "side", "stride", "offset")  # of a class map, which ModelFile has
ANY = -1  # a free dimension, null in the manifest
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def kotlin(manifest: dict[str, Any], golden: dict[str, Any] | None = None) -> str:
    """Returns ModelContract.kt of a bundle.

    Args:
        manifest: the content of manifest.json.
        golden: the content of golden.json, or None if the bundle has no golden/.
    """
    return _render("ModelContract.kt.j2", _literal(kotlin_string, "null", "listOf({})"), manifest, golden)


def swift(manifest: dict[str, Any], golden: dict[str, Any] | None = None) -> str:
    """Returns ModelContract.swift of a bundle. The arguments are those of `kotlin`."""
    return _render("ModelContract.swift.j2", _literal(swift_string, "nil", "[{}]"), manifest, golden)


def kotlin_string(text: str) -> str:
    """Returns a string literal of Kotlin."""

    def escape(character: str) -> str:
        units = character.encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

    return _quoted(text, {**ESCAPES, "$": "\\$"}, escape)


def swift_string(text: str) -> str:
    """Returns a string literal of Swift. Its interpolation `\\(` starts with a backslash, which is doubled."""
    return _quoted(text, ESCAPES, lambda character: f"\\u{{{ord(character):x}}}")


def _quoted(text: str, special: dict[str, str], escape: Callable[[str], str]) -> str:
    """Quotes text. Characters that do not print are written as numbers, so that no line of the source breaks."""
    parts = (special.get(each) or (each if each.isprintable() else escape(each)) for each in text)
    return f'"{"".join(parts)}"'


def _literal(string: Callable[[str], str], nothing: str, array: str) -> Callable[[Any], str]:
    """Returns a function from a value of the manifest to a literal of the language."""

    def literal(value: Any) -> str:
        match value:
            case None:
                return nothing
            case bool():
                return str(value).lower()
            case str():
                return string(value)
            case list():
                return array.format(", ".join(str(ANY if side is None else int(side)) for side in value))
            case _:
                return repr(value)

    return literal


def _render(
    template: str, literal: Callable[[Any], str], manifest: dict[str, Any], golden: dict[str, Any] | None
) -> str:
    tolerances = {name: float(entry["tolerance"]) for name, entry in (golden or {}).get("expected", {}).items()}
    files = [
        _model_file(name, entry, tolerances.get(name))
        for name, entry in manifest["files"].items()
        if entry["format"] != FOR_SERVERS
    ]
    return rendering.render(template, literal=literal, manifest=manifest, constants=_constants(manifest), files=files)


def _constants(manifest: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Returns (name in lower-case words, type, value) of each constant that is the same for every file.

    A threshold of 0 means that every photograph is answered.
    """
    preprocessing, labels = manifest["preprocessing"], manifest["labels"]
    texts = ("resize", "interpolation", "colour order", "colour space", "orientation", "transparency")
    return [
        ("sqznet version", "String", manifest["sqznet"]),
        ("model sha256", "String", manifest["model_sha256"]),
        *((name, "String", preprocessing[name.replace(" ", "_")]) for name in texts),
        ("labels", "String", labels["file"]),
        ("labels sha256", "String", labels["sha256"]),
        ("image size", "Int", preprocessing["image_size"]),
        ("resize to", "Int", preprocessing["resize_to"]),
        ("classes", "Int", len(manifest["classes"])),
        ("antialias", "Bool", bool(preprocessing["antialias"])),
        ("threshold", "Double", float((manifest.get("threshold") or {"value": 0})["value"])),
    ]


def _model_file(name: str, entry: dict[str, Any], tolerance: float | None) -> dict[str, Any]:
    """Returns the arguments of a ModelFile, in the order of its fields."""
    image, output = entry["input"], entry["output"]
    maps = entry.get("class_map", {})
    return {
        "name": name,
        **{field: entry[field] for field in ("format", "quantize", "sha256", "bytes")},
        "inputName": image["name"],
        "inputType": image["dtype"],
        "inputShape": image["shape"],
        "inputLayout": image["layout"],
        "outputName": output["name"],
        "outputType": output["dtype"],
        "outputShape": output["shape"],
        "outputScale": float(output["scale"]),
        "outputZeroPoint": output["zero_point"],
        **{f"classMap{field.capitalize()}": maps.get(field) for field in MAP_FIELDS},
        "tolerance": tolerance,
    }
