"""Lists all files that an export can write: format, quantization, layout and writer of each file."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from sqznet.core.errors import InputError
from sqznet.export import onnx, onnx_int8, saved_model, tflite
from sqznet.network import class_map
from sqznet.network.quantization import int8

FORMATS = ("savedmodel", "tflite", "onnx", "onnx_nchw")
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
PROBABILITIES = "probabilities"
OUTPUTS = (PROBABILITIES, class_map.NAME)


@dataclass
class ModelToExport:
    """The model that the writers convert. Its int8 form is computed when the first writer needs it."""

    model: keras.Model  # of fold.inference_model
    calibration: list[np.ndarray]  # training photographs, uint8 (n, size, size, 3) each; only int8 files need any
    tflite_batch: int | None = 1  # images per run of a TFLite file; None: any number
    sparse: bool = False  # whether int8 kernels have coarse steps, many of them zero, so that a file packs well
    with_class_map: bool = False  # whether the files have the class map as a second output

    @functools.cached_property
    def quantized(self) -> int8.Quantized:
        return int8.quantize(self.model, self.calibration, sparse=self.sparse)

    def without_class_map(self) -> ModelToExport:
        """Returns the same model for files with one output. Both have the same int8 form, which is computed once."""
        copy = dataclasses.replace(self, with_class_map=False)
        if "quantized" in vars(self):
            vars(copy)["quantized"] = self.quantized
        return copy


@dataclass(frozen=True)
class Variant:
    file_name: str
    format: str  # of FORMATS
    quantize: str  # of QUANTIZATIONS
    write: Callable[[ModelToExport, Path], None]
    layout: str = "NHWC"

    @property
    def is_tflite(self) -> bool:
        return self.format == "tflite"

    @property
    def has_uint8_ports(self) -> bool:
        return self.is_tflite and self.quantize == "int8"


def _tflite(file_name: str, quantize: str) -> Variant:
    def write(source: ModelToExport, path: Path) -> None:
        if quantize == "int8":
            tflite.write_int8(source.quantized, path, source.tflite_batch, with_class_map=source.with_class_map)
        else:
            tflite.write(source.model, path, quantize, source.tflite_batch, with_class_map=source.with_class_map)

    return Variant(file_name, "tflite", quantize, write)


def _onnx(file_name: str, quantize: str, layout: str = "NHWC") -> Variant:
    def write(source: ModelToExport, path: Path) -> None:
        if quantize == "int8":
            onnx_int8.write(source.quantized, path, layout, with_class_map=source.with_class_map)
        else:
            onnx.write(source.model, path, quantize, layout, with_class_map=source.with_class_map)

    return Variant(file_name, "onnx" if layout == "NHWC" else "onnx_nchw", quantize, write, layout)


def _saved_model(source: ModelToExport, path: Path) -> None:
    saved_model.write(source.model, path, with_class_map=source.with_class_map)


VARIANTS = (
    Variant("savedmodel", "savedmodel", "none", _saved_model),
    _tflite("model.tflite", "none"),
    _tflite("model_float16.tflite", "float16"),
    _tflite("model_dynamic.tflite", "dynamic"),
    _tflite("model_int8.tflite", "int8"),
    _onnx("model.onnx", "none"),
    _onnx("model_float16.onnx", "float16"),
    _onnx("model_int8.onnx", "int8"),
    _onnx("model_nchw.onnx", "none", "NCHW"),
    _onnx("model_nchw_float16.onnx", "float16", "NCHW"),
    _onnx("model_nchw_int8.onnx", "int8", "NCHW"),
)


def choose(formats: Iterable[str], quantize: Iterable[str]) -> list[Variant]:
    """Returns the variants that `--format` and `--quantize` select: each combination that exists. `all` is every value.

    Raises:
        InputError: a name is unknown, or a format or quantization has no combination.
    """
    formats, quantize = list(formats), list(quantize)
    for what, names, known in (("format", formats, FORMATS), ("quantization", quantize, QUANTIZATIONS)):
        wrong = [name for name in names if name not in (*known, "all")]
        if wrong or not names:
            raise InputError(f"no {what} {wrong[0] if wrong else ''!r}; there are {', '.join(known)}, and all")

    def selected(each: Variant) -> bool:
        return not {"all", each.format}.isdisjoint(formats) and not {"all", each.quantize}.isdisjoint(quantize)

    chosen = [each for each in VARIANTS if selected(each)]
    for name in formats:
        if name != "all" and not any(each.format == name for each in chosen):
            able = [known for known in FORMATS if any(v.format == known and v.quantize in quantize for v in VARIANTS)]
            raise InputError(f"{name} has no {' or '.join(quantize)} variant; {', '.join(able)} have")
    for name in quantize:
        if name != "all" and not any(each.quantize == name for each in chosen):
            able = [
                known for known in QUANTIZATIONS if any(v.quantize == known and v.format in formats for v in VARIANTS)
            ]
            raise InputError(f"{' and '.join(formats)} have no {name} variant; they have {', '.join(able)}")
    return chosen


def has_class_map(outputs: Iterable[str]) -> bool:
    """Returns whether the `outputs` of a file include the class map.

    Raises:
        InputError: a name is unknown, or the probabilities are missing.
    """
    outputs = list(outputs)
    wrong = [name for name in outputs if name not in OUTPUTS]
    if wrong:
        raise InputError(f"no output {wrong[0]!r}; there are {', '.join(OUTPUTS)}")
    if PROBABILITIES not in outputs:
        raise InputError(
            f"--outputs={','.join(outputs)} lacks {PROBABILITIES}, which every file has: give "
            f"--outputs={','.join(OUTPUTS)}"
        )
    return class_map.NAME in outputs
