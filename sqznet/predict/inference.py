"""One face for all that classifies: a run folder, .keras, .sqz, SavedModel, .tflite, .onnx, or published weights.

`load(path)` runs each in its own runtime. A `Predictor` takes uint8 RGB pixels 0..255, (n, size, size, 3), and
gives float32 probabilities, (n, classes).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sqznet import weights
from sqznet.core import console, foreign, metrics, startup
from sqznet.core.errors import InputError
from sqznet.images import geometry
from sqznet.network import exported, keras_file, labels, metadata
from sqznet.network.keras_file import MEMBER, Card
from sqznet.network.sqz import decoder
from sqznet.runs import run_folder
from sqznet.weights.catalogue import CATALOGUE

if TYPE_CHECKING:
    import keras

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
    geometry: dict[str, Any] = field(default_factory=dict)  # fields of the card's preprocessing that a user has set

    @property
    def image_size(self) -> int:
        """Side of the images that it takes, in pixels."""
        return self.runtime.image_size

    def with_geometry(self, given: dict[str, Any]) -> Predictor:
        """The same model, with photographs scaled and cut as the user says (`geometry.given`).

        Raises:
            InputError: the fields do not go together.
        """
        card = replace(self.card, preprocessing=geometry.applied(self.card.preprocessing, given))
        return replace(self, card=card, geometry=given)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) to float32 probabilities (n, classes).

        Raises:
            InputError: what the model puts out are no probabilities.
        """
        batch = self.runtime.batch or max(1, len(images))
        parts = [self.runtime(images[start : start + batch]) for start in range(0, len(images), batch)]
        probabilities = np.concatenate(parts)
        try:
            # Only integer files round their answers to steps.
            metrics.check_probabilities(probabilities, getattr(self.runtime, "step", 0.0))
        except ValueError as error:
            raise InputError(f"{self.path} {error}") from None
        return probabilities

    def outputs_of(self, classes: tuple[str, ...], where: Path) -> np.ndarray:
        """The output that stands for each class of a data set, int64 (classes,).

        The data may have all of the model's classes, in the same order, or some of them, in any.

        Raises:
            InputError: the data's classes are not the model's.
        """
        known = self.card.classes
        if known and known == _numbers(len(known)) and not set(labels.readable(classes)) <= set(known):
            raise InputError(
                f"{self.path} only numbers its {len(known)} classes, and {where} names them ({classes[0]!r} and so "
                "on): import the model again with --labels=FILE, its class names in their order, one a line"
            )
        as_many = self.runtime.classes == len(classes)
        ours, theirs = labels.readable(known or ()), labels.readable(classes)
        if as_many and (known is None or ours == theirs):
            return np.arange(len(classes))
        if as_many and known and set(ours) == set(theirs):  # one of the two has been mixed up
            index = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len(set(pair)) > 1)
            raise InputError(
                f"{self.path} and {where} order their classes differently: class {index} is "
                f"{known[index]!r} in the model and {classes[index]!r} in the data"
            )
        return self._by_names(known or (), classes, where)

    def _by_names(self, known: tuple[str, ...], classes: tuple[str, ...], where: Path) -> np.ndarray:
        taken: dict[int, str] = {}
        for name, outputs in zip(classes, labels.match(classes, known), strict=True):
            if not outputs:
                close = ", ".join(map(repr, labels.close_to(name, known)))
                raise InputError(
                    f"{self.path} has {self.runtime.classes} classes, {where} has {len(classes)}, and the model does "
                    f"not know {name!r}" + (f"; what it knows by almost this name: {close}" if close else "")
                )
            if len(outputs) > 1:
                words = labels.readable(known)
                candidates = ", ".join(f"{output} ({words[output]!r})" for output in outputs)
                raise InputError(
                    f"{name!r} in {where} stands for several outputs of {self.path}: {candidates}. Give its class the "
                    "name of one of them, or where these are alike, give the model's classes names that differ"
                )
            (output,) = outputs
            if output in taken:
                raise InputError(
                    f"{taken[output]!r} and {name!r} in {where} are both output {output} of {self.path}, "
                    f"{labels.readable(known)[output]!r}: put their photographs into one class"
                )
            taken[output] = name
        return np.array(list(taken), np.int64)


def _numbers(count: int) -> tuple[str, ...]:
    """What classes are called that were never named."""
    return tuple(map(str, range(count)))


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
            self.image_size = int(spec.shape[1])
        except Exception as error:  # a damaged one surfaces as whatever TensorFlow stumbled over
            raise InputError(
                f"{path} is not a SavedModel exported by sqznet ({type(error).__name__}: {error})"
            ) from None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return self._serve(image=tf.constant(images, tf.float32))["probabilities"].numpy()


class TfliteRuntime:
    """LiteRT's interpreter; float32 or uint8 pixels and probabilities, whichever the file has."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with startup.quiet():
                self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a TFLite file that LiteRT can run: {str(error).splitlines()[0]}") from None
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
            why = f"it wants pixels as steps of {self._input['quantization']}, not as they are"
            raise exported.not_ours(path, why)
        self.step, self._zero = self._output["quantization"]
        self._scale = self.step or 1.0
        self.card_text = metadata.card_in_tflite(path)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return ((self.raw(images).astype(np.float32) - self._zero) * self._scale).astype(np.float32)

    def raw(self, images: np.ndarray) -> np.ndarray:
        """What the file itself puts out: probabilities, or their steps as uint8."""
        count = len(images)
        images = _filled(images, self.batch)
        if self.batch is None and len(images) != self._interpreter.get_input_details()[0]["shape"][0]:
            with startup.quiet():
                self._interpreter.resize_tensor_input(self._input["index"], images.shape)
                self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(self._input["index"], images.astype(self._input["dtype"]))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])[:count]


class OnnxRuntime:
    """ONNX Runtime; NHWC or NCHW, whichever the file has."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or startup.threads() or 0  # 0: as many as the machine has cores
        try:
            with startup.quiet():
                self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise InputError(f"{path} is not an ONNX file that ONNX Runtime can run: {error}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        types = {"tensor(float)": "float32"}
        _check_ports(
            path,
            [(port.name, types.get(port.type, port.type), port.shape or []) for port in inputs],
            [(port.name, types.get(port.type, port.type), port.shape or []) for port in outputs],
        )
        (self._input,), (self._output,) = inputs, outputs
        batch = self._input.shape[0]
        self.batch: int | None = batch if isinstance(batch, int) else None  # tools that fix it keep the rest
        self.image_size = int(self._input.shape[2])
        self.classes = int(self._output.shape[-1])
        self._channels_first = self._input.shape[1] == 3
        self.card_text: str | None = self._session.get_modelmeta().custom_metadata_map.get(MEMBER)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        count = len(images)
        images = _filled(images, self.batch)
        if self._channels_first:
            images = images.transpose(0, 3, 1, 2)
        return self._session.run([self._output.name], {self._input.name: images.astype(np.float32)})[0][:count]


def _filled(images: np.ndarray, batch: int | None) -> np.ndarray:
    """As many images as a file takes at a time, the last one repeated."""
    missing = max(0, (batch or 0) - len(images))
    return np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images


FILE_RUNTIMES: dict[str, Callable[[Path, int | None], TfliteRuntime | OnnxRuntime]] = {
    ".tflite": TfliteRuntime,
    ".onnx": OnnxRuntime,
}


def _check_ports(path: Path, inputs: list[Port], outputs: list[Port], types: tuple[str, ...] = ("float32",)) -> None:
    """Refuses a model that does not map square RGB images to rows of numbers."""
    right = len(inputs) == 1 and len(outputs) == 1 and _is_image(*inputs[0][1:], types)
    if not right or outputs[0][1] not in types or len(outputs[0][2]) != 2 or not isinstance(outputs[0][2][1], int):
        raise exported.not_ours(
            path,
            f"expected one input, {' or '.join(types)} (batch, size, size, 3), and one output, {' or '.join(types)} "
            f"(batch, classes); found {inputs} and {outputs}",
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
    _refuse_strangers(path)
    kind = exported.kind(path)
    if kind == ".keras":
        return _load_keras_file(path)
    if kind == decoder.SUFFIX:
        from sqznet.network.sqz import convert  # imports TensorFlow, which exported files do not need

        return convert.load(path)
    return weights.load(path)


def _load_keras_file(path: Path) -> tuple[keras.Model, Card]:
    if path.suffix == ".keras" or not path.exists():
        return keras_file.load(path)
    with tempfile.TemporaryDirectory() as folder:  # Keras reads no file of another suffix
        copy = Path(shutil.copy(path, Path(folder, "model.keras")))
        try:
            return keras_file.load(copy)
        except InputError as error:
            raise InputError(str(error).replace(str(copy), str(path))) from None


def _refuse_strangers(path: Path) -> None:
    """Refuses a file of another kind than its name says, such as an error page that was saved as model.onnx."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (*FILE_RUNTIMES, ".keras", decoder.SUFFIX) or exported.by_content(path):
        return  # weights.load tells what has no suffix of ours
    content = path.read_bytes()
    if suffix == ".keras" and content.startswith(b"PK"):
        return  # of another program, or damaged: keras_file.load says which
    what = foreign.what_is(content)
    if what is not None:
        raise InputError(f"{path} is {what}")


def file_of(path: Path) -> Path:
    """The model file that a path stands for: of a bundle's folder the one nearest to the trained model, else itself.

    Raises:
        InputError: the bundle's manifest cannot be read, or none of its files is there.
    """
    named = exported.bundled(path)
    if named is None:
        return path
    there = [name for name in named if (path / name).exists()]
    if not there:
        raise InputError(f"{path / exported.MANIFEST} lists {', '.join(named) or 'no file'}, and none of them is there")
    console.say(f"of the bundle {path}: {there[0]}")
    return path / there[0]


def is_keras(path: Path) -> bool:
    """Whether `load` reads a model with `load_keras`, so that it can be trained further."""
    return not (path / "saved_model.pb").is_file() and (path.is_dir() or exported.kind(path) not in FILE_RUNTIMES)


def needs_tensorflow(path: Path) -> bool:
    """Whether `load` will import TensorFlow, which takes seconds; TFLite and ONNX files do without."""
    return exported.kind(path) not in FILE_RUNTIMES or path.is_dir()


def load(path: Path, threads: int | None = None) -> Predictor:
    """Loads any model of this package in the runtime that its users run it in; published weights, too.

    Args:
        path: a file, a folder of a run, a SavedModel or a bundle (`file_of`), or a name of published weights.
        threads: for TFLite and ONNX files; None leaves it to the runtime. TensorFlow's are set for the whole process.

    Raises:
        InputError: no such path or name, an unknown kind, or a damaged file.
    """
    path = file_of(path)
    if path.name == "saved_model.pb" and path.is_file():
        raise InputError(f"{path} is one file of a SavedModel; give its folder: {path.parent}")
    runtime_of_file = FILE_RUNTIMES.get(exported.kind(path))
    if runtime_of_file and path.is_file():
        _refuse_strangers(path)
        runtime = runtime_of_file(path, threads)
        found = exported.statements(path, runtime.card_text)
        return Predictor(path, runtime, exported.agreed(path, found, runtime))
    if (path / "saved_model.pb").is_file():
        # Before it is loaded: a SavedModel can do what any program can.
        found = exported.statements(path, metadata.card_in_saved_model(path))
        loaded = SavedModelRuntime(path)
        return Predictor(path, loaded, exported.agreed(path, found, loaded))
    if path.exists() or str(path) in CATALOGUE:
        if path.is_dir() and not (path / run_folder.CONFIG).is_file():
            what = foreign.folder(path)
            raise InputError(
                f"{path} is neither a run folder nor a SavedModel folder nor a bundle's"
                + (f", but {what}" if what else "")
            )
        return of_keras(path, *load_keras(path))
    raise InputError(
        f"no such model: {path} (expected a run folder, .keras, .sqz, SavedModel, .tflite or .onnx, a file of "
        f"published weights, or one of {', '.join(CATALOGUE)})"
    )


def of_keras(path: Path, model: keras.Model, card: Card) -> Predictor:
    """A predictor of a model that is loaded already."""
    return Predictor(path, KerasRuntime(model, card.preprocessing.image_size), card)
