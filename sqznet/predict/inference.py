"""Loads any model as a `Predictor`: a run folder, .keras, .sqz, SavedModel, .tflite, .onnx, or published weights."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sqznet import weights
from sqznet.core import console, foreign, metrics
from sqznet.core.errors import InputError
from sqznet.images import geometry
from sqznet.network import class_map, exported, keras_file, labels, metadata
from sqznet.network.class_map import Grid
from sqznet.network.keras_file import Card
from sqznet.network.sqz import decoder
from sqznet.predict.runtimes import FILE_RUNTIMES, KerasRuntime, Runtime, SavedModelRuntime
from sqznet.runs import run_folder
from sqznet.weights.catalogue import CATALOGUE

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Predictor:
    """A model in its runtime, with its card."""

    path: Path
    runtime: Runtime
    card: Card
    geometry: dict[str, Any] = field(default_factory=dict)  # fields of the preprocessing that the user has set

    @property
    def image_size(self) -> int:
        """Side of the input images, in pixels."""
        return self.runtime.image_size

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the data set, or their numbers if the model does not name them."""
        return self.card.classes or tuple(map(str, range(self.runtime.classes)))

    @property
    def threshold(self) -> float | None:
        """The largest probability below which the answer is "not sure". None means none."""
        return None if self.card.threshold is None else self.card.threshold["value"]

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes for people."""
        return labels.readable(self.classes)

    def with_geometry(self, given: dict[str, Any]) -> Predictor:
        """Returns the same model with the user's scaling and cropping of photographs (`geometry.given`).

        Raises:
            InputError: the fields do not fit together.
        """
        card = replace(self.card, preprocessing=geometry.applied(self.card.preprocessing, given))
        return replace(self, card=card, geometry=given)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Converts uint8 (n, size, size, 3) to float32 probabilities (n, classes).

        Raises:
            InputError: the images have another type or shape, or the outputs of the model are not probabilities.
        """
        probabilities = np.concatenate([self.runtime(some) for some in self._batches(images)])
        self._check(probabilities)
        return probabilities

    def predict_with_class_map(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Converts uint8 (n, size, size, 3) to probabilities (n, classes) and class maps (n, side, side, classes).

        Both are float32. `network/class_map.py` defines the class map.

        Raises:
            InputError: as `predict`, and if the model is a file without a class map.
        """
        self.require_class_map()
        parts = [self.runtime.with_class_map(some) for some in self._batches(images)]
        probabilities, maps = (np.concatenate(each) for each in zip(*parts, strict=True))
        self._check(probabilities)
        return probabilities, maps

    def require_class_map(self) -> Grid:
        """Returns the grid of the class map.

        Raises:
            InputError: the model is a file without a class map.
        """
        if self.runtime.grid is None:
            raise InputError(f"{self.path} has no {class_map.NAME}, only probabilities: {class_map.HOW_TO}")
        return self.runtime.grid

    def _batches(self, images: np.ndarray) -> Iterator[np.ndarray]:
        _require_inputs(images, self.image_size)
        batch = self.runtime.batch or max(1, len(images))
        return (images[start : start + batch] for start in range(0, len(images), batch))

    def _check(self, probabilities: np.ndarray) -> None:
        """Raises InputError if the outputs of the model are not probabilities."""
        try:
            # The outputs of integer files are multiples of a step.
            metrics.check_probabilities(probabilities, getattr(self.runtime, "step", 0.0))
        except ValueError as error:
            raise InputError(f"{self.path} {error}") from None

    def outputs_of(self, classes: tuple[str, ...], where: Path) -> np.ndarray:
        """Returns the model's output for each class of a data set, int64 (classes,).

        The data may have all classes of the model in the same order, or some of them in any order.

        Raises:
            InputError: a class of the data is not a class of the model, or is ambiguous.
        """
        known = self.card.classes
        if known and known == tuple(map(str, range(len(known)))) and not set(labels.readable(classes)) <= set(known):
            raise InputError(
                f"{self.path} only numbers its {len(known)} classes, and {where} names them ({classes[0]!r} and so "
                "on): import the model again with --labels=FILE, its class names in their order, one a line"
            )
        as_many = self.runtime.classes == len(classes)
        ours, theirs = labels.readable(known or ()), labels.readable(classes)
        if as_many and (known is None or ours == theirs):
            return np.arange(len(classes))
        if as_many and known and set(ours) == set(theirs):  # the same classes in another order
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
                    f"{self.path} has {self.runtime.classes} classes, {where} has {len(classes)}, and the model has "
                    f"no class {name!r}" + (f"; similar classes of the model: {close}" if close else "")
                )
            if len(outputs) > 1:
                words = labels.readable(known)
                candidates = ", ".join(f"{output} ({words[output]!r})" for output in outputs)
                raise InputError(
                    f"{name!r} in {where} matches several outputs of {self.path}: {candidates}. Rename the class "
                    "to one of them; if these have the same name, give the classes of the model different names"
                )
            (output,) = outputs
            if output in taken:
                raise InputError(
                    f"{taken[output]!r} and {name!r} in {where} are both output {output} of {self.path}, "
                    f"{labels.readable(known)[output]!r}: put their photographs into one class"
                )
            taken[output] = name
        return np.array(list(taken), np.int64)


def load_keras(path: Path) -> tuple[keras.Model, Card]:
    """Loads the Keras model and the card of a run folder, a .keras or .sqz file, or published weights (file or name).

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    if path.is_dir():
        run_folder.load_config(path)  # raises InputError for another folder
        if not (path / run_folder.BEST).is_file():
            raise InputError(f"{path} has no {run_folder.BEST}: no epoch of that run is finished")
        return keras_file.load(path / run_folder.BEST)
    _refuse_other_kinds(path)
    kind = exported.suffix_of(path)
    if kind == ".keras":
        return _load_keras_file(path)
    if kind == decoder.SUFFIX:
        from sqznet.network.sqz import convert  # imports TensorFlow

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


def _refuse_other_kinds(path: Path) -> None:
    """Raises InputError for a file whose content contradicts its suffix, such as an error page saved as model.onnx."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (*FILE_RUNTIMES, ".keras", decoder.SUFFIX) or exported.content_suffix(path):
        return  # weights.load handles other suffixes
    content = path.read_bytes()
    if suffix == ".keras" and content.startswith(b"PK"):
        return  # keras_file.load distinguishes another program's file from a damaged file
    what = foreign.what_is(content)
    if what is not None:
        raise InputError(f"{path} is {what}")


def file_of(path: Path) -> Path:
    """Returns the file of a bundle that is closest to the trained model. Returns any other path unchanged.

    Raises:
        InputError: the bundle's manifest cannot be read, or none of its files is there.
    """
    named = exported.bundle_files(path)
    if named is None:
        return path
    there = [name for name in named if (path / name).exists()]
    if not there:
        listed = ", ".join(named) or "no file"
        raise InputError(f"{path / exported.BUNDLE_MANIFEST} lists {listed}, and none of them is there")
    console.say(f"of the bundle {path}: {there[0]}")
    return path / there[0]


def is_keras(path: Path) -> bool:
    """Checks whether `load_keras` can load the model at `path`. Such a model can be trained further."""
    return not (path / "saved_model.pb").is_file() and (path.is_dir() or exported.suffix_of(path) not in FILE_RUNTIMES)


def needs_tensorflow(path: Path) -> bool:
    """Checks whether `load` will import TensorFlow, which takes seconds. TFLite and ONNX files do not need it."""
    return exported.suffix_of(path) not in FILE_RUNTIMES or path.is_dir()


def load(path: Path, threads: int | None = None) -> Predictor:
    """Loads any model file in its own runtime. Published weights and run folders are loaded in Keras.

    Args:
        path: a file, the folder of a run, a SavedModel or a bundle (`file_of`), or a name of published weights.
        threads: number of threads for TFLite and ONNX files. None means that the runtime decides. TensorFlow's threads
            are set for the whole process.

    Raises:
        InputError: the path or the name does not exist, or the file is damaged or of an unknown kind.
    """
    path = file_of(path)
    if path.name == "saved_model.pb" and path.is_file():
        raise InputError(f"{path} is one file of a SavedModel; give its folder: {path.parent}")
    runtime_of_file = FILE_RUNTIMES.get(exported.suffix_of(path))
    if runtime_of_file and path.is_file():
        _refuse_other_kinds(path)
        runtime = runtime_of_file(path, threads)
        found = exported.find_cards(path, runtime.card_text)
        return Predictor(path, runtime, exported.consistent_card(path, found, runtime))
    if (path / "saved_model.pb").is_file():
        # Read before the model is loaded: a SavedModel can run any code.
        found = exported.find_cards(path, metadata.card_in_saved_model(path))
        loaded = SavedModelRuntime(path)
        return Predictor(path, loaded, exported.consistent_card(path, found, loaded))
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


def require_uint8(pixels: np.ndarray) -> None:
    """Refuses pixels of another type. For example, pixels that were divided by 255 would look black to the network.

    Raises:
        InputError: the pixels are not uint8. The error names their range and the conversion.
    """
    if pixels.dtype == np.uint8:
        return
    found = f"{pixels.dtype} from {pixels.min():g} to {pixels.max():g}" if pixels.size else f"{pixels.dtype}"
    scaled = "np.rint(255 * pixels)" if pixels.size and pixels.max() <= 1 else "np.rint(pixels)"
    raise InputError(
        f"expected pixels of dtype uint8, 0 to 255, and found {found}: give {scaled}.astype(np.uint8). Do not subtract "
        "a mean and do not divide: the network does it"
    )


def _require_inputs(images: np.ndarray, size: int) -> None:
    require_uint8(images)
    if images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise InputError(
            f"expected images of shape (n, {size}, {size}, 3), and found {images.shape}. sqznet.load(...).predict "
            "scales and crops photographs of any size"
        )


def of_keras(path: Path, model: keras.Model, card: Card) -> Predictor:
    """Returns a predictor for a loaded model."""
    return Predictor(path, KerasRuntime(model, card.preprocessing.image_size, card.divisor), card)
