"""One face for every file that classifies: a run folder, .keras, SavedModel, .tflite or .onnx.

`load(path)` runs each in its own runtime. A `Predictor` takes uint8 RGB pixels 0..255, (n, size, size, 3), and
gives float32 probabilities, (n, classes).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sqznet import recipes
from sqznet.errors import InputError
from sqznet.recipes import Recipe
from sqznet.training import run_folder

if TYPE_CHECKING:
    import keras

CROP_FRACTION = 227 / 256  # of the short side, for a file that comes without its manifest


Port = tuple[str, str, list[Any]]  # name, type, shape


class Runtime(Protocol):
    """A loaded model. `batch` is the number of images it takes at a time; None means any."""

    batch: int | None
    image_size: int
    classes: int

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) to float32 probabilities (n, classes)."""
        ...


@dataclass(frozen=True)
class Predictor:
    """A runtime, and what is known of the model beside its weights."""

    path: Path
    runtime: Runtime
    class_names: tuple[str, ...] | None
    resize_short: int  # pixels; see data.preprocess

    @property
    def recipe(self) -> Recipe:
        """The preprocessing that the model was made for, in the form that `data.preprocess` takes."""
        return Recipe(image_size=self.runtime.image_size, resize_short=self.resize_short)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) to float32 probabilities (n, classes)."""
        batch = self.runtime.batch or max(1, len(images))
        parts = [self.runtime(images[start : start + batch]) for start in range(0, len(images), batch)]
        return np.concatenate(parts)

    def check_classes(self, class_names: tuple[str, ...], where: Path) -> None:
        """Raises InputError if the data's classes are not the model's."""
        if self.runtime.classes != len(class_names):
            raise InputError(f"{self.path} has {self.runtime.classes} classes, {where} has {len(class_names)}")
        if self.class_names is not None and self.class_names != class_names:
            index = next(i for i, (a, b) in enumerate(zip(self.class_names, class_names, strict=True)) if a != b)
            raise InputError(
                f"{self.path} and {where} order their classes differently: class {index} is "
                f"{self.class_names[index]!r} in the model and {class_names[index]!r} in the data"
            )


class KerasRuntime:
    """A training model of this package: uint8 in, logits out; the softmax is applied here."""

    batch: int | None = None

    def __init__(self, model: keras.Model, image_size: int) -> None:
        import tensorflow as tf

        self.image_size = image_size
        self.classes = model.output_shape[-1]
        self._predict = tf.function(
            lambda images: tf.nn.softmax(model(images, training=False)),
            input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.uint8)],
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._predict(images).numpy()


class SavedModelRuntime:
    batch: int | None = None

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        try:
            self._loaded = tf.saved_model.load(str(path))  # owns the variables
            self._serve = self._loaded.signatures["serving_default"]
            spec = self._serve.structured_input_signature[1]["image"]
            self.classes = int(self._serve.structured_outputs["probabilities"].shape[-1])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path} is not a SavedModel exported by sqznet ({type(error).__name__}: {error})"
            ) from None
        self.image_size = int(spec.shape[1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return self._serve(image=tf.constant(images, tf.float32))["probabilities"].numpy()


class TfliteRuntime:
    """LiteRT's interpreter."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a TFLite file: {str(error).splitlines()[0]}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check_ports(
            path,
            [(port["name"], port["dtype"].__name__, port["shape"].tolist()) for port in inputs],
            [(port["name"], port["dtype"].__name__, port["shape"].tolist()) for port in outputs],
        )
        (self._input,), (self._output,) = inputs, outputs
        batch, self.image_size = (int(each) for each in self._input["shape"][:2])
        self.batch: int | None = batch
        self.classes = int(self._output["shape"][-1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input["index"], images.astype(np.float32))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])


class OnnxRuntime:
    batch: int | None = None

    def __init__(self, path: Path) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise InputError(f"{path} is not an ONNX file: {error}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {"tensor(float)": "float32"}
        _check_ports(
            path,
            [(port.name, types.get(port.type, port.type), port.shape) for port in inputs],
            [(port.name, types.get(port.type, port.type), port.shape) for port in outputs],
        )
        (self._input,), (self._output,) = inputs, outputs
        self.image_size = int(self._input.shape[1])
        self.classes = int(self._output.shape[-1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._session.run([self._output.name], {self._input.name: images.astype(np.float32)})[0]


def _check_ports(path: Path, inputs: list[Port], outputs: list[Port]) -> None:
    """Refuses a model that does not map one NHWC float32 image to one row of float32 probabilities."""
    square = len(inputs) == 1 and inputs[0][1] == "float32" and len(inputs[0][2]) == 4 and inputs[0][2][3] == 3
    square = square and isinstance(inputs[0][2][1], int) and inputs[0][2][1] == inputs[0][2][2]
    if not square or len(outputs) != 1 or outputs[0][1] != "float32" or len(outputs[0][2]) != 2:
        raise InputError(
            f"{path} is not a file exported by sqznet: expected one input, float32 (batch, size, size, 3), and one "
            f"output, float32 (batch, classes); found {inputs} and {outputs}"
        )


def load_keras(path: Path) -> tuple[keras.Model, dict[str, Any]]:
    """The Keras model of a run folder, or of the best.keras in one, and the run's config.

    Raises:
        InputError: the file is missing, damaged, or has no config.json beside it.
    """
    import keras

    file = path / run_folder.BEST if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path} has no {run_folder.BEST}: no epoch of that run is finished")
    config = run_folder.load_config(file.parent)
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True), config
    except Exception as error:  # a damaged archive surfaces as whatever its reader stumbled over
        raise InputError(f"{file} cannot be loaded as a Keras model: {error}") from None


def load(path: Path) -> Predictor:
    """Loads any model file of this package in the runtime that its users run it in.

    Raises:
        InputError: no such path, an unknown kind, or a damaged file.
    """
    if not path.exists():
        raise InputError(f"no such model: {path} (expected a run folder, .keras, SavedModel, .tflite or .onnx)")
    if path.suffix == ".keras" or (path / run_folder.CONFIG).is_file():
        model, config = load_keras(path)
        recipe = recipes.from_dict(config["recipe"], where=str(path))
        return Predictor(path, KerasRuntime(model, recipe.image_size), tuple(config["classes"]), recipe.resize_short)
    runtime: Runtime
    if path.suffix == ".tflite":
        runtime = TfliteRuntime(path)
    elif path.suffix == ".onnx":
        runtime = OnnxRuntime(path)
    elif (path / "saved_model.pb").is_file():
        runtime = SavedModelRuntime(path)
    else:
        raise InputError(f"{path} is none of: run folder, .keras, SavedModel folder, .tflite, .onnx")
    class_names, resize_short = _beside(path, runtime.image_size)
    return Predictor(path, runtime, class_names, resize_short)


def _beside(path: Path, image_size: int) -> tuple[tuple[str, ...] | None, int]:
    """Class names and short side from the manifest.json that export writes beside its files, if it is there."""
    manifest = path.parent / "manifest.json"
    if not manifest.is_file():
        return None, round(image_size / CROP_FRACTION)
    try:
        content = json.loads(manifest.read_text())
        return tuple(content["classes"]), int(content["preprocessing"]["resize_short"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest} cannot be read ({type(error).__name__}: {error})") from None
