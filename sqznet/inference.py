"""One face for all that classifies: a run folder, .keras, .sqz, SavedModel, .tflite, .onnx, or published weights.

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

from sqznet import files, keras_file, weights
from sqznet.compression import network
from sqznet.errors import InputError
from sqznet.keras_file import Card
from sqznet.preprocessing import Preprocessing
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
    """LiteRT's interpreter; float32 or uint8 pixels and probabilities, whichever the file has."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a TFLite file: {str(error).splitlines()[0]}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check_ports(
            path,
            [(port["name"], port["dtype"].__name__, port["shape"].tolist()) for port in inputs],
            [(port["name"], port["dtype"].__name__, port["shape"].tolist()) for port in outputs],
            types=("float32", "uint8"),
        )
        (self._input,), (self._output,) = inputs, outputs
        batch, self.image_size = (int(each) for each in self._input["shape_signature"][:2])
        self.image_size = int(self._input["shape"][1])
        self.batch: int | None = None if batch == -1 else batch
        self.classes = int(self._output["shape"][-1])
        if self._input["dtype"] == np.uint8 and self._input["quantization"] != (1.0, 0):
            raise InputError(f"{path} wants pixels as steps of {self._input['quantization']}, not as they are")
        scale, self._zero = self._output["quantization"]
        self._scale = scale or 1.0  # 0 where there are no steps

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return ((self.raw(images).astype(np.float32) - self._zero) * self._scale).astype(np.float32)

    def raw(self, images: np.ndarray) -> np.ndarray:
        """What the file itself puts out: probabilities, or their steps as uint8."""
        count = len(images)
        if self.batch and count < self.batch:  # the file takes no fewer
            images = np.concatenate([images, np.repeat(images[-1:], self.batch - count, axis=0)])
        if self.batch is None and len(images) != self._interpreter.get_input_details()[0]["shape"][0]:
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], images.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])[:count]


class OnnxRuntime:
    """ONNX Runtime; NHWC or NCHW, whichever the file has."""

    batch: int | None = None

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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
        self.image_size = int(self._input.shape[2])
        self.classes = int(self._output.shape[-1])
        self._channels_first = self._input.shape[1] == 3

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self._channels_first:
            images = images.transpose(0, 3, 1, 2)
        return self._session.run([self._output.name], {self._input.name: images.astype(np.float32)})[0]


FILE_RUNTIMES: dict[str, Callable[[Path, int | None], Runtime]] = {".tflite": TfliteRuntime, ".onnx": OnnxRuntime}


def _check_ports(path: Path, inputs: list[Port], outputs: list[Port], types: tuple[str, ...] = ("float32",)) -> None:
    """Refuses a model that does not map square RGB images to rows of probabilities."""
    right = len(inputs) == 1 and len(outputs) == 1 and _is_image(*inputs[0][1:], types)
    if not right or outputs[0][1] not in types or len(outputs[0][2]) != 2:
        hint = f"; to import it: python -m sqznet.weights --source={path} --out=model.keras"
        raise InputError(
            f"{path} is not a file exported by sqznet: expected one input, {' or '.join(types)} (batch, size, size, "
            f"3), and one output, {' or '.join(types)} (batch, classes); found {inputs} and {outputs}"
            f"{hint if path.suffix == '.onnx' else ''}"
        )


def _is_image(dtype: str, shape: list[Any], types: tuple[str, ...]) -> bool:
    if dtype not in types or len(shape) != 4:
        return False
    sides = shape[2:] if shape[1] == 3 else shape[1:3]
    return 3 in (shape[1], shape[3]) and isinstance(sides[0], int) and sides[0] == sides[1]


def load_keras(path: Path) -> tuple[keras.Model, Card]:
    """The Keras model, and its card, of a run folder, a .keras or .sqz file, published weights or the name of some.

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
    if path.suffix == network.SUFFIX:
        return network.load(path)
    return weights.load(path)


def load(path: Path, threads: int | None = None) -> Predictor:
    """Loads any model of this package in the runtime that its users run it in; published weights, too.

    Args:
        threads: for TFLite and ONNX files; None leaves it to the runtime. TensorFlow's are set for the whole process.

    Raises:
        InputError: no such path or name, an unknown kind, or a damaged file.
    """
    if path.suffix in FILE_RUNTIMES and path.is_file():
        return _with_manifest(path, FILE_RUNTIMES[path.suffix](path, threads))
    if (path / "saved_model.pb").is_file():
        return _with_manifest(path, SavedModelRuntime(path))
    if path.exists() or str(path) in CATALOGUE:
        if path.is_dir() and not (path / run_folder.CONFIG).is_file():
            raise InputError(f"{path} is neither a run folder nor a SavedModel folder")
        return of_keras(path, *load_keras(path))
    raise InputError(
        f"no such model: {path} (expected a run folder, .keras, .sqz, SavedModel, .tflite or .onnx, a file of "
        f"published weights, or one of {', '.join(CATALOGUE)})"
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
    except (ValueError, RecursionError) as error:
        raise InputError(f"{manifest} cannot be read: {error}") from None
    card = keras_file.card_from_dict(content, where=str(manifest))
    _check_sha256(path, content, manifest)
    if card.classes is not None and len(card.classes) != runtime.classes:
        raise InputError(
            f"{path} has {runtime.classes} outputs, and {manifest} lists {len(card.classes)} classes: it is the "
            "manifest of other files; keep exported files together with their own"
        )
    return Predictor(path, runtime, card)


def _check_sha256(path: Path, content: dict[str, Any], manifest: Path) -> None:
    """Refuses a file or folder that is not the one its manifest speaks of."""
    listed = content.get("files")
    entry = listed.get(path.name) if isinstance(listed, dict) else None
    expected = entry.get("sha256") if isinstance(entry, dict) else None
    if expected is not None and files.sha256_below(path) != expected:
        raise InputError(
            f"{path} does not have the sha256 that {manifest} gives: it was changed or damaged; export again"
        )
