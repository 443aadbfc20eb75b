"""Defines the runtimes of model files: Keras, SavedModel, TFLite and ONNX, one class each. Imports TensorFlow lazily.

Each runtime takes uint8 RGB pixels 0..255, (n, size, size, 3), and returns float32 probabilities, (n, classes). If the
model has a class map (`network/class_map.py`), `with_class_map` returns it as well.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sqznet.core import startup, typed
from sqznet.core.errors import InputError
from sqznet.network import class_map, exported, metadata
from sqznet.network.class_map import Grid
from sqznet.network.keras_file import MEMBER

Port = tuple[str, str, list[Any]]  # name, type, shape


class Runtime(Protocol):
    """A loaded model. `batch` is the number of images that it takes at a time. None means any number."""

    batch: int | None
    image_size: int
    classes: int

    @property
    def grid(self) -> Grid | None:
        """The grid of the class map, or None if the file has none."""
        ...

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Converts uint8 (n, size, size, 3) to float32 probabilities (n, classes)."""
        ...

    def with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts uint8 (n, size, size, 3) to probabilities (n, classes) and class maps (n, side, side, classes).

        Both are float32. The model must have a grid.
        """
        ...


class KerasRuntime:
    """A training model of this package, which returns logits. This class applies the temperature and softmax."""

    batch: int | None = None

    def __init__(self, model: Any, image_size: int, temperature: float = 1.0) -> None:
        import tensorflow as tf

        self.model = model
        self.image_size = image_size
        self.classes = model.output_shape[-1]
        self.temperature = temperature
        self._signature = [tf.TensorSpec([None, image_size, image_size, 3], tf.uint8)]
        self._predict = tf.function(
            lambda images: tf.nn.softmax(model(images, training=False) / temperature), input_signature=self._signature
        )

    @functools.cached_property
    def grid(self) -> Grid:
        from sqznet.network import model as models

        network, *_ = models.describe(self.model, self.image_size)
        return class_map.grid_of(network, self.temperature)

    @functools.cached_property
    def _predict_with_class_map(self) -> Any:
        import keras
        import tensorflow as tf

        from sqznet.network import model as models

        both = keras.Model(self.model.input, [self.model.output, models.class_map(self.model)])
        assert self.grid is not None
        divisor = self.temperature / self.grid.divisor  # of the map, as in exported files

        def predict(images):
            logits, maps = both(images, training=False)
            return tf.nn.softmax(logits / self.temperature), maps / divisor

        return tf.function(predict, input_signature=self._signature)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._predict(images).numpy()

    def with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, maps = self._predict_with_class_map(images)
        return probabilities.numpy(), maps.numpy()


class SavedModelRuntime:
    batch: int | None = None

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(str(path))  # owns the variables
            self._serve = self._loaded.signatures["serving_default"]
            spec = self._serve.structured_input_signature[1]["image"]
            self.classes = int(self._serve.structured_outputs["probabilities"].shape[-1])
            self.image_size = int(spec.shape[1])
            port = self._serve.structured_outputs.get(class_map.NAME)
            shape = None if port is None else list(port.shape)
        except Exception as error:  # a damaged file causes errors of many classes
            raise InputError(
                f"{path} is not a SavedModel exported by sqznet ({type(error).__name__}: {error})"
            ) from None
        self.grid = _grid(path, metadata.card_in_saved_model(path), shape, self.classes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._outputs(images)["probabilities"].numpy()

    def with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = self._outputs(images)
        return outputs["probabilities"].numpy(), outputs[class_map.NAME].numpy()

    def _outputs(self, images: np.ndarray) -> dict[str, Any]:
        import tensorflow as tf

        return self._serve(image=tf.constant(images, tf.float32))


class TfliteRuntime:
    """LiteRT. The input and output of the file are float32 or uint8."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with startup.quiet():
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a TFLite file that LiteRT can run: {str(error).splitlines()[0]}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        ports = [
            [(each["name"], each["dtype"].__name__, each["shape"].tolist()) for each in io] for io in (inputs, outputs)
        ]
        _check_ports(path, ports, types=("float32", "uint8"))
        (self._input,), (self._output, *others) = inputs, outputs
        batch, self.image_size = int(self._input["shape_signature"][0]), int(self._input["shape"][1])
        self.batch: int | None = None if batch == -1 else batch
        self.classes = int(self._output["shape"][-1])
        if self._input["dtype"] == np.uint8 and self._input["quantization"] != (1.0, 0):
            why = f"its input has the scale and zero point {self._input['quantization']}, expected (1.0, 0)"
            raise exported.foreign_file(path, why)
        self.step, self._zero = self._output["quantization"]
        self._scale = self.step or 1.0
        self.card_text = metadata.card_in_tflite(path)
        self._map = others[0] if others else None
        self.grid = _grid(path, self.card_text, self._map and self._map["shape"].tolist(), self.classes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return ((self.raw(images).astype(np.float32) - self._zero) * self._scale).astype(np.float32)

    def with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._map is not None
        probabilities = self(images)
        return probabilities, self._interpreter.get_tensor(self._map["index"])[: len(images)]

    def raw(self, images: np.ndarray) -> np.ndarray:
        """Returns the output of the file: probabilities, or as uint8 their quantized values."""
        count = len(images)
        images = _padded(images, self.batch)
        if self.batch is None and len(images) != self._interpreter.get_input_details()[0]["shape"][0]:
            with startup.quiet():
                self._interpreter.resize_tensor_input(self._input["index"], images.shape)
                self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], images.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])[:count]


class OnnxRuntime:
    """ONNX Runtime. The input of the file is NHWC or NCHW."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or startup.threads() or 0  # 0: one a core
        try:
            with startup.quiet():
                self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise InputError(f"{path} is not an ONNX file that ONNX Runtime can run: {error}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {"tensor(float)": "float32"}
        ports = [
            [(each.name, types.get(each.type, each.type), each.shape or []) for each in io] for io in (inputs, outputs)
        ]
        _check_ports(path, ports)
        (self._input,), (self._output, *others) = inputs, outputs
        batch = self._input.shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None  # some tools fix the batch size
        self.image_size = int(self._input.shape[2])
        self.classes = int(self._output.shape[-1])
        self._channels_first = self._input.shape[1] == 3
        self.card_text: str | None = self._session.get_modelmeta().custom_metadata_map.get(MEMBER)
        self.grid = _grid(path, self.card_text, others[0].shape if others else None, self.classes)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._run(images, [self._output.name])[0]

    def with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, maps = self._run(images, [self._output.name, class_map.NAME])
        return probabilities, maps

    def _run(self, images: np.ndarray, names: list[str]) -> list[np.ndarray]:
        count = len(images)
        images = _padded(images, self.batch)
        if self._channels_first:
            images = images.transpose(0, 3, 1, 2)
        outputs = self._session.run(names, {self._input.name: images.astype(np.float32)})
        return [output[:count] for output in outputs]


def _padded(images: np.ndarray, batch: int | None) -> np.ndarray:
    """Returns the images, with the last image repeated up to the batch size of the file."""
    missing = max(0, (batch or 0) - len(images))
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images


def _check_ports(path: Path, ports: list[list[Port]], types: tuple[str, ...] = ("float32",)) -> None:
    """Raises InputError unless the ports are one input of square RGB images and one output (batch, classes).

    A second output must be the class map.
    """
    inputs, outputs = ports
    has_only_map = all((name, dtype) == (class_map.NAME, "float32") for name, dtype, _ in outputs[1:])
    fits = len(inputs) == 1 and 1 <= len(outputs) <= 2 and has_only_map and _is_image(*inputs[0][1:], types)
    if not fits or outputs[0][1] not in types or len(outputs[0][2]) != 2 or not isinstance(outputs[0][2][1], int):
        raise exported.foreign_file(
            path,
            f"expected one input, {' or '.join(types)} (batch, size, size, 3), and one output, {' or '.join(types)} "
            f"(batch, classes), before a class map if there is one; found {inputs} and {outputs}",
        )


def _grid(path: Path, card_text: str | None, shape: list[Any] | None, classes: int) -> Grid | None:
    """Returns the grid of a file's class map, whose output has this shape. Returns None if there is no such output.

    Raises:
        InputError: the file does not describe the class map, or describes another one.
    """
    if shape is None:
        return None
    where = f"{MEMBER} inside {path}"
    grid = class_map.read(typed.parse_json(card_text, where), where) if card_text else None
    if grid is None or shape[1:] != [grid.side, grid.side, classes]:
        described = "it does not describe it" if grid is None else f"{where} says a side of {grid.side} cells"
        why = f"its second output is a class map {shape} for {classes} classes, and {described}"
        raise exported.foreign_file(path, why)
    return grid


def _is_image(dtype: str, shape: list[Any], types: tuple[str, ...]) -> bool:
    if dtype not in types or len(shape) != 4:
        return False
    sides = shape[2:] if shape[1] == 3 else shape[1:3]
    return 3 in (shape[1], shape[3]) and isinstance(sides[0], int) and sides[0] == sides[1]


FILE_RUNTIMES: dict[str, type[TfliteRuntime] | type[OnnxRuntime]] = {".tflite": TfliteRuntime, ".onnx": OnnxRuntime}
