"""One face for everything that classifies: a run folder, .keras, SavedModel, .tflite, .onnx, or published weights.

`load(path)` runs each in its own runtime. A `Predictor` takes uint8 RGB pixels 0..255, (n, size, size, 3), and
gives float32 probabilities, (n, classes).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sqznet import keras_file, weights
from sqznet.errors import InputError
from sqznet.keras_file import Card
from sqznet.recipes import Preprocessing
from sqznet.training import run_folder
from sqznet.weights.catalogue import CATALOGUE

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
    card: Card

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) to float32 probabilities (n, classes)."""
        batch = self.runtime.batch or max(1, len(images))
        parts = [self.runtime(images[start : start + batch]) for start in range(0, len(images), batch)]
        return np.concatenate(parts)

    def outputs_of(self, classes: tuple[str, ...], where: Path) -> np.ndarray:
        """The output that stands for each class of a data set, int64 (classes,).

        The data may have all of the model's classes, in the same order, or some of them, in any.

        Raises:
            InputError: the data's classes are not the model's.
        """
        known = self.card.classes
        if self.runtime.classes == len(classes):
            if known is not None and known != classes:
                index = next(i for i, (a, b) in enumerate(zip(known, classes, strict=True)) if a != b)
                raise InputError(
                    f"{self.path} and {where} order their classes differently: class {index} is "
                    f"{known[index]!r} in the model and {classes[index]!r} in the data"
                )
            return np.arange(len(classes))
        outputs = {name: output for output, name in enumerate(known or ())}
        stranger = next((name for name in classes if name not in outputs), None)
        if stranger is not None:
            raise InputError(
                f"{self.path} has {self.runtime.classes} classes, {where} has {len(classes)}, and the model does not "
                f"know {stranger!r}"
            )
        return np.array([outputs[name] for name in classes])


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


FILE_RUNTIMES: dict[str, Callable[[Path], Runtime]] = {".tflite": TfliteRuntime, ".onnx": OnnxRuntime}


def _check_ports(path: Path, inputs: list[Port], outputs: list[Port]) -> None:
    """Refuses a model that does not map one NHWC float32 image to one row of float32 probabilities."""
    square = len(inputs) == 1 and inputs[0][1] == "float32" and len(inputs[0][2]) == 4 and inputs[0][2][3] == 3
    square = square and isinstance(inputs[0][2][1], int) and inputs[0][2][1] == inputs[0][2][2]
    if not square or len(outputs) != 1 or outputs[0][1] != "float32" or len(outputs[0][2]) != 2:
        hint = f"; to import it: python -m sqznet.weights --source={path} --out=model.keras"
        raise InputError(
            f"{path} is not a file exported by sqznet: expected one input, float32 (batch, size, size, 3), and one "
            f"output, float32 (batch, classes); found {inputs} and {outputs}{hint if path.suffix == '.onnx' else ''}"
        )


def load_keras(path: Path) -> tuple[keras.Model, Card]:
    """The Keras model, and its card, of a run folder, a .keras file, a file of published weights or the name of one.

    Raises:
        InputError: the file is missing or damaged, or not what this package writes or imports.
    """
    if path.is_dir():
        run_folder.load_config(path)  # raises where it is no run folder
        if not (path / run_folder.BEST).is_file():
            raise InputError(f"{path} has no {run_folder.BEST}: no epoch of that run is finished")
        return keras_file.load(path / run_folder.BEST)
    if path.suffix == ".keras":
        return keras_file.load(path)
    return weights.load(path)


def load(path: Path) -> Predictor:
    """Loads any model of this package in the runtime that its users run it in; published weights, too.

    Raises:
        InputError: no such path or name, an unknown kind, or a damaged file.
    """
    if path.suffix in FILE_RUNTIMES and path.is_file():
        return _with_manifest(path, FILE_RUNTIMES[path.suffix](path))
    if (path / "saved_model.pb").is_file():
        return _with_manifest(path, SavedModelRuntime(path))
    if path.exists() or str(path) in CATALOGUE:
        if path.is_dir() and not (path / run_folder.CONFIG).is_file():
            raise InputError(f"{path} is neither a run folder nor a SavedModel folder")
        return of_keras(path, *load_keras(path))
    raise InputError(
        f"no such model: {path} (expected a run folder, .keras, SavedModel, .tflite or .onnx, a file of published "
        f"weights, or one of {', '.join(CATALOGUE)})"
    )


def of_keras(path: Path, model: keras.Model, card: Card) -> Predictor:
    """A predictor of a model that is loaded already."""
    return Predictor(path, KerasRuntime(model, card.preprocessing.image_size), card)


def _with_manifest(path: Path, runtime: Runtime) -> Predictor:
    """With what the manifest.json says that export writes beside its files, if it is there."""
    manifest = path.parent / "manifest.json"
    if not manifest.is_file():
        resize_to = round(runtime.image_size / CROP_FRACTION)
        return Predictor(path, runtime, Card(None, Preprocessing(runtime.image_size, resize_to)))
    try:
        content = json.loads(manifest.read_text())
    except ValueError as error:
        raise InputError(f"{manifest} cannot be read: {error}") from None
    card = keras_file.card_from_dict(content, where=str(manifest))
    if card.classes is not None and len(card.classes) != runtime.classes:
        raise InputError(
            f"{path} has {runtime.classes} outputs, and {manifest} lists {len(card.classes)} classes: it is the "
            "manifest of other files; keep exported files together with their own"
        )
    return Predictor(path, runtime, card)
