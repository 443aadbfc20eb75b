"""Every file that an export can hold, once: its format, its quantisation, its layout, and who writes it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core.errors import InputError
from sqznet.export import onnx, onnx_int8, saved_model, tflite
from sqznet.network.quantization import int8

if TYPE_CHECKING:
    import keras

FORMATS = ("savedmodel", "tflite", "onnx", "onnx_nchw")
QUANTIZATIONS = ("none", "float16", "dynamic", "int8")


class Source:
    """What the writers write: the inference model, and its int8 form, found when the first writer asks for it.

    Args:
        model: `fold.inference_model`.
        calibration: training photographs, uint8 (n, size, size, 3) each; only int8 files need any.
        tflite_batch: images at a time in TFLite files; None means any number.
        sparse: whether int8 kernels have coarse steps, for a file that packs well.
    """

    def __init__(
        self,
        model: keras.Model,
        calibration: list[np.ndarray],
        tflite_batch: int | None = 1,
        sparse: bool = False,
    ) -> None:
        self.model = model
        self.calibration = calibration
        self.tflite_batch = tflite_batch
        self.sparse = sparse

    @functools.cached_property
    def quantized(self) -> int8.Quantized:
        return int8.quantize(self.model, self.calibration, sparse=self.sparse)


@dataclass(frozen=True)
class Variant:
    file_name: str
    format: str  # of FORMATS
    quantize: str  # of QUANTIZATIONS
    write: Callable[[Source, Path], None]
    layout: str = "NHWC"

    @property
    def is_tflite(self) -> bool:
        return self.format == "tflite"

    @property
    def has_uint8_ports(self) -> bool:
        return self.is_tflite and self.quantize == "int8"


def _tflite(quantize: str) -> Callable[[Source, Path], None]:
    return lambda source, path: tflite.write(source.model, path, quantize, source.tflite_batch)


def _onnx(quantize: str, layout: str) -> Callable[[Source, Path], None]:
    return lambda source, path: onnx.write(source.model, path, quantize, layout)


def _onnx_int8(layout: str) -> Callable[[Source, Path], None]:
    return lambda source, path: onnx_int8.write(source.quantized, path, layout)


VARIANTS = (
    Variant("savedmodel", "savedmodel", "none", lambda source, path: saved_model.write(source.model, path)),
    Variant("model.tflite", "tflite", "none", _tflite("none")),
    Variant("model_float16.tflite", "tflite", "float16", _tflite("float16")),
    Variant("model_dynamic.tflite", "tflite", "dynamic", _tflite("dynamic")),
    Variant(
        "model_int8.tflite",
        "tflite",
        "int8",
        lambda source, path: tflite.write_int8(source.quantized, path, source.tflite_batch),
    ),
    Variant("model.onnx", "onnx", "none", _onnx("none", "NHWC")),
    Variant("model_float16.onnx", "onnx", "float16", _onnx("float16", "NHWC")),
    Variant("model_int8.onnx", "onnx", "int8", _onnx_int8("NHWC")),
    Variant("model_nchw.onnx", "onnx_nchw", "none", _onnx("none", "NCHW"), "NCHW"),
    Variant("model_nchw_float16.onnx", "onnx_nchw", "float16", _onnx("float16", "NCHW"), "NCHW"),
    Variant("model_nchw_int8.onnx", "onnx_nchw", "int8", _onnx_int8("NCHW"), "NCHW"),
)


def choose(format_name: str, quantize: str) -> list[Variant]:
    """The files that `--format` and `--quantize` mean; `all` means every one there is.

    Raises:
        InputError: an unknown name, or a format that has no such quantization.
    """
    if format_name != "all" and format_name not in FORMATS:
        raise InputError(f"no format {format_name!r}; there are {', '.join(FORMATS)}, and all")
    if quantize != "all" and quantize not in QUANTIZATIONS:
        raise InputError(f"no quantization {quantize!r}; there are {', '.join(QUANTIZATIONS)}, and all")
    chosen = [each for each in VARIANTS if format_name in ("all", each.format) and quantize in ("all", each.quantize)]
    if not chosen:
        able = [name for name in FORMATS if any(v.format == name and v.quantize == quantize for v in VARIANTS)]
        raise InputError(f"{format_name} has no {quantize} variant; {', '.join(able)} have")
    return chosen
