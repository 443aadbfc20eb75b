"""Defines the public Python API. `import sqznet` provides these names without importing this module at once.

The packages `sqznet.train`, `sqznet.evaluate` and `sqznet.export` are commands. Therefore no function has one of these
names. `fit` trains, and `Classifier` has `evaluate` and `export`. The commands call the same functions as this module.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sqznet import recipes
from sqznet.core import console, files, notebook, remote, startup
from sqznet.core.errors import InputError, Reject, Stopped
from sqznet.data import manifest as manifests
from sqznet.images import decode, resize
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import keras_file
from sqznet.network.keras_file import Card
from sqznet.predict import answers, class_maps, inference, prediction
from sqznet.predict import photographs as photograph_files
from sqznet.predict.class_maps import ClassMap
from sqznet.predict.inference import Predictor
from sqznet.predict.prediction import Predictions, Ranking
from sqznet.recipes import Recipe, fitting
from sqznet.recipes import recipe as recipe_fields
from sqznet.runs import run_folder
from sqznet.runs.best import Line
from sqznet.train import settings
from sqznet.train.callbacks import Callback

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from sqznet.evaluate.evaluation import Evaluation
    from sqznet.export.session import Bundle

FilePath = str | Path
Photograph = str | Path | Image.Image | np.ndarray
_Names = str | Iterable[str]


def SqueezeNet(
    version: str = "v1.1",
    *,
    weights: FilePath | None = "imagenet",
    include_top: bool = True,
    classes: int = 1000,
    image_size: int | None = None,
    classifier_activation: str | None = "softmax",
    activation: str = "relu",
    dropout: float | None = 0.5,
) -> keras.Model:
    """Builds a SqueezeNet (Iandola et al. 2016, arXiv 1602.07360).

    The input is RGB pixels 0 to 255, uint8 or float, (n, height, width, 3). Normalisation is the first layer, so pixels
    must not be divided or centred before. The best image size is the size of the training, 227 x 227 for `imagenet`.
    Other sizes are accepted.

    Args:
        version: `v1.0` or `v1.1`. v1.1 needs 2.4 times less computation for the same accuracy.
        weights: `imagenet` means the authors' published weights, which are downloaded once. Other values are a name
            that `python -m sqznet.weights --list` prints, a run folder, a .keras file or another file of weights. None
            means random weights.
        include_top: whether the network ends with dropout, conv10 and global average pooling. If not, the output is the
            output of fire9: float32 (n, h, w, 512).
        classes: number of outputs. If the weights have another number, conv10 starts from random weights.
        image_size: the side for which the pools are padded, in pixels. None means the size of the weights, or 227.
        classifier_activation: `softmax` for probabilities, or None for logits.
        activation: `relu` or `elu`, for random weights. Other weights determine the activation.
        dropout: fraction of fire9's output that is dropped in training. None means no dropout.

    Returns:
        A Keras functional model with the output float32 (n, classes). After a training with Keras,
        `sqznet.Classifier.from_keras` makes a classifier from the model.

    Raises:
        InputError: the version or the weights are unknown, or the weights have another version.
    """
    startup.load_tensorflow()
    from sqznet.predict import squeezenet

    return squeezenet.build(
        version,
        weights=weights,
        include_top=include_top,
        classes=classes,
        image_size=image_size,
        classifier_activation=classifier_activation,
        activation=activation,
        dropout=dropout,
    )


def load(path: FilePath, *, threads: int | None = None) -> Classifier:
    """Loads a model: a run folder, a .keras, .sqz, .tflite or .onnx file, a SavedModel, a bundle, or published weights.

    TFLite and ONNX files run in their own runtime and need no TensorFlow.

    Args:
        path: a file, a folder, or a name such as `squeezenet-v1.1`, whose weights are downloaded once.
        threads: number of threads for TFLite and ONNX files. None means that the runtime decides.

    Raises:
        InputError: the path or the name does not exist, or the file is damaged or of an unknown kind.
    """
    file = inference.file_of(Path(path))
    if inference.needs_tensorflow(file):
        startup.load_tensorflow()
    return Classifier(inference.load(file, threads))


class Classifier:
    """Classifies photographs with a trained network. `sqznet.load` and `TrainingRun.best` return a classifier."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @classmethod
    def from_keras(
        cls,
        model: keras.Model | FilePath,
        classes: Sequence[str],
        *,
        recipe: str | Recipe = "finetune",
        image_size: int | None = None,
        data: FilePath | None = None,
        pretrained_on: str | None = None,
    ) -> Classifier:
        """Makes a classifier from a `sqznet.SqueezeNet` that was trained with Keras.

        The classifier has its own copy of the network. If the network was built for another image size, its pools get
        the padding for the new image size.

        Args:
            model: the model, or the path of a .keras file of `model.save`.
            classes: the names of the outputs, in order: `Shards.classes` for a network that was trained on shards.
            recipe: the recipe that was given to `sqznet.dataset`. It defines how photographs are scaled and cropped.
            image_size: the image size that was given to `sqznet.dataset`, in pixels. None means the image size of the
                recipe.
            data: the folder of the shards that `evaluate` and `export` use by default.
            pretrained_on: the data of the weights that training started from, for reports.

        Raises:
            InputError: the model is not a SqueezeNet with its own head, or has another number of outputs.
        """
        startup.load_tensorflow()
        import keras

        from sqznet.network import model as models
        from sqznet.predict import squeezenet

        path = Path("model.keras")
        if not isinstance(model, keras.Model):
            path = Path(model)
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        logits = squeezenet.logits_of(model)
        preprocessing = _recipe(recipe, image_size).preprocessing
        network, *_ = models.describe(logits, preprocessing.image_size)
        names = tuple(classes)
        if len(names) != network.classes:
            raise InputError(f"the model has {network.classes} outputs, and {len(names)} classes are given")
        manifests.require_class_names(names, "classes")
        card = Card(names, preprocessing, data=str(data) if data else None, pretrained_on=pretrained_on)
        return cls(inference.of_keras(path, squeezenet.at_size(logits, preprocessing.image_size), card))

    @property
    def path(self) -> Path:
        """The file or folder of the model."""
        return self._predictor.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes for people, in the order of the outputs: `tench` for the folder `n01440764`."""
        return self._predictor.labels

    @property
    def image_size(self) -> int:
        """Side of the network's input, in pixels."""
        return self._predictor.image_size

    @property
    def preprocessing(self) -> Preprocessing:
        """How photographs are scaled and cropped."""
        return self._predictor.card.preprocessing

    @property
    def keras_model(self) -> keras.Model:
        """The Keras model, from uint8 pixels (n, image_size, image_size, 3) to logits (n, classes).

        Raises:
            InputError: the model is an exported file.
        """
        model = getattr(self._predictor.runtime, "model", None)
        if model is None:
            raise InputError(
                f"{self.path} is an exported file and has no Keras model: load the run folder or the .keras file that "
                "it was exported from"
            )
        return model

    def predict(self, photographs: Photograph | Iterable[Photograph], top: int = 5) -> Ranking | Predictions:
        """Classifies photographs. Each photograph is decoded, turned upright, scaled and cropped as in the training.

        Args:
            photographs: one photograph, or several. One photograph is the path of a file, a Pillow image, or an array
                of uint8 RGB pixels (height, width, 3) of any size. Several photographs are a folder with its
                subfolders, an iterable, or an array (n, height, width, 3).
            top: number of classes for each photograph.

        Returns:
            For one photograph, a `Ranking`: a list of the `top` most probable classes. For several photographs, a
            `Predictions`: a list with a `Ranking` for each photograph.

        Raises:
            InputError: a photograph cannot be read. For a folder there is no error: `failures` of the result lists such
                files.
        """
        if isinstance(photographs, (str, Path)):
            if Path(photographs).is_dir():
                return self._predict_folder(Path(photographs), top)
            return self._rank(photographs, top)
        if isinstance(photographs, Image.Image) or (isinstance(photographs, np.ndarray) and photographs.ndim != 4):
            return self._rank(photographs, top)
        rankings, paths = [], []
        for each in answers.with_bar(photographs):
            rankings.append(self._rank(each, top))
            if isinstance(each, (str, Path)):
                paths.append(Path(each))
            if len(rankings) > prediction.SHOWN:  # the pixels of thousands of photographs would fill the memory
                rankings[-1].pixels = None
        return Predictions(rankings, paths if len(paths) == len(rankings) else ())

    def _predict_folder(self, folder: Path, top: int) -> Predictions:
        found, failures = answers.answer(photograph_files.list_photos([str(folder)]), self._predictor, top)
        return Predictions([each.predictions for each in found], [each.photo for each in found], failures)

    def _rank(self, photograph: Photograph, top: int) -> Ranking:
        return prediction.rank(self._predictor, self._prepared(photograph), top)

    def class_map(self, photograph: Photograph, top: int = 5) -> ClassMap:
        """Classifies one photograph, and computes where in the photograph each class has its score.

        Args:
            photograph: the path of a file, a Pillow image, or an array of uint8 RGB pixels (height, width, 3).
            top: number of classes in the `ranking` of the result.

        Raises:
            InputError: the photograph cannot be read, or the model is an exported file without class maps.
        """
        return class_maps.compute(self._predictor, self._decoded(photograph), top)

    def _prepared(self, photograph: Photograph) -> np.ndarray:
        """Returns the input of the network, uint8 (image_size, image_size, 3)."""
        return resize.prepare(self._decoded(photograph), self.preprocessing)

    def _decoded(self, photograph: Photograph) -> np.ndarray:
        """Returns the whole photograph, upright, uint8 (height, width, 3)."""
        if isinstance(photograph, (str, Path)):
            try:
                return photograph_files.read(Path(photograph))[0]
            except Reject as reason:
                raise InputError(f"{photograph}: {reason}") from None
        if isinstance(photograph, Image.Image):
            try:
                return decode.of_image(photograph)
            except Reject as reason:
                raise InputError(f"the image {photograph!r}: {reason}") from None
        pixels = np.asarray(photograph)
        inference.require_uint8(pixels)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise InputError(f"expected RGB pixels of shape (height, width, 3), and found {pixels.shape}")
        return pixels

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Runs the network on prepared images, such as the batches of `sqznet.dataset`.

        Args:
            images: uint8 RGB pixels, (n, image_size, image_size, 3).

        Returns:
            float32 (n, classes).

        Raises:
            InputError: the images have another dtype or shape.
        """
        return self._predictor.predict(np.asarray(images))

    def evaluate(self, data: FilePath | None = None, split: str | None = None) -> Evaluation:
        """Measures rank-1 and rank-5 accuracy. Each record of the split is used once.

        Args:
            data: folder of the shards. None means the shards that the model was trained on.
            split: train, val or test. None means test, or val if there is no test.

        Raises:
            InputError: there is no such data or split, or the data has classes that the model lacks.
        """
        startup.load_tensorflow()
        from sqznet.evaluate import scoring
        from sqznet.evaluate.evaluation import Evaluation

        manifest = manifests.load(_folder(data) or run_folder.trained_on(self._predictor.card, self.path))
        split = split or scoring.default_split(manifest)
        return Evaluation(scoring.evaluate(self._predictor, manifest, split), self._predictor, manifest, split)

    def export(
        self,
        out: FilePath | None = None,
        *,
        formats: _Names = "all",
        quantize: _Names = "none",
        data: FilePath | None = None,
        **options: Any,
    ) -> Bundle:
        """Exports the network as a verified bundle: model files, labels, self-tests and reports.

        Args:
            out: the bundle's folder. None means export/artifacts/NAME.
            formats: `savedmodel`, `tflite`, `onnx`, `onnx_nchw`, `all`, or several of them.
            quantize: `none` (float32), `float16`, `dynamic`, `int8`, `all`, or several of them.
            data: folder of the shards for the comparison. None means the shards that the model was trained on.
            options: further settings. `budget` is the maximum number of bytes of a file. `max_drop` is the maximum loss
                of top-1, as a share. `records` is the number of records to compare on, and None means all. `split` is
                the split of these records. `min_precision` is a share of right answers, such as 0.98. It sets the
                threshold below which the answer is "not sure", and needs a model that `evaluate --calibrate` has
                calibrated. `calibration_records` is the number of training records that an int8 file
                is calibrated on. `outputs=("probabilities", "class_map")` writes files with class maps. `latency_runs`
                is the number of timed runs of each file. `tflite_batch` is the number of images per run of a TFLite
                file, and None means any number. `sparse=True` makes an int8 file that packs well. `synthetic=True` puts
                drawn pictures instead of records into the report. `replace=True` removes an older bundle as a whole.

        Raises:
            InputError: a file fails a check, `out` contains other files, or the model is an exported file.
        """
        model = self.keras_model
        from sqznet.export import session

        return session.export_model(
            self.path,
            model,
            self._predictor.card,
            chosen=session.choose(_names(formats), _names(quantize), sparse=bool(options.get("sparse"))),
            data=_folder(data),
            out=_path(out),
            **options,
        )

    def save(self, path: FilePath) -> None:
        """Writes the Keras model with its classes and preprocessing as one .keras file, which `sqznet.load` reads.

        Raises:
            InputError: the model is an exported file, or the name does not end in .keras.
        """
        path = Path(path)
        if path.suffix != ".keras":
            raise InputError(f"{path} does not end in .keras; Keras writes such files only")
        files.check_folder(path.parent)
        keras_file.save(self.keras_model, self._predictor.card, path)

    def __repr__(self) -> str:
        return f"<sqznet.Classifier {self.path}: {len(self.classes):,} classes, {self.image_size} px>"


@dataclass(frozen=True, repr=False)
class TrainingRun:
    """Describes a finished training."""

    folder: Path
    """The run folder, which `sqznet.load` and every command read."""
    recipe: Recipe
    """The recipe of the run, after it was fitted to the data and to the weights."""
    history: list[Line]
    """The metrics of each epoch. `Callback` lists them."""

    @property
    def best(self) -> Classifier:
        """The network of the best epoch."""
        return load(self.folder)

    def __repr__(self) -> str:
        return f"<sqznet.TrainingRun {self.folder}: {len(self.history)} epochs, recipe {self.recipe.name}>"

    def _repr_html_(self) -> str:
        curve = self.folder / "curve.png"
        picture = notebook.picture(curve.read_bytes(), "image/png") if curve.is_file() else ""
        return picture + notebook.paragraph(f"run folder: {self.folder}")


def fit(
    data: FilePath | None = None,
    recipe: str | Recipe | None = None,
    *,
    weights: FilePath | None = None,
    teacher: FilePath | None = None,
    folder: FilePath | None = None,
    resume: bool = False,
    strategy: str = "mirrored",
    replicas: int | None = None,
    callbacks: Sequence[Callback] = (),
    deterministic: bool | None = None,
    max_bad_records: int = 0,
    **fields: Any,
) -> TrainingRun:
    """Trains a SqueezeNet, as the command `python -m sqznet.train` does.

    After Ctrl-C, the stop button of a notebook or SIGTERM, the training saves its state and ends. `resume=True`
    continues the training.

    Args:
        data: folder of shards. None means data/shards, or the built-in demo set.
        recipe: a name (`sqznet.recipes.RECIPES`), a .json file, a run folder, or a `Recipe`. None means a recipe that
            suits the size of the data.
        weights: initial weights: a run folder, a .keras file, or published weights. None means random weights, and
            `squeezenet-v1.1` for the recipe `finetune`.
        teacher: a model whose probabilities the network learns in addition to the labels.
        folder: the run folder. None means runs/TIME-RECIPE.
        resume: whether to continue the run in `folder`, or the newest run.
        strategy: `one`, `mirrored` or `multiworker`.
        replicas: number of devices of `mirrored`. None means all GPUs, or one CPU.
        callbacks: objects that are called before, during and after the training (see `Callback`).
        deterministic: whether every operation gives the same bits each time. None means True on a machine without GPUs,
            and False with GPUs.
        max_bad_records: largest number of corrupt records to leave out.
        fields: fields of the recipe, such as `epochs=4` and `image_size=96`. With another `image_size`, `resize_to`
            changes in proportion, and the recipe trains on this size only. With so few `epochs` that the warm-up would
            not end, the warm-up is shortened in proportion.

    Raises:
        InputError: two arguments contradict each other, or the data cannot be read.
        KeyboardInterrupt: the training was interrupted. Its state is saved.
        SystemExit: the training got a SIGTERM. Its state is saved.
    """
    overrides = {name: recipe_fields.with_tuples(value) for name, value in fields.items()}
    for name in overrides:
        recipe_fields.check_field(name, "sqznet.fit")
    request = settings.Request(
        data=_folder(data),
        recipe=recipe if recipe is None or isinstance(recipe, Recipe) else recipes.path_of(str(recipe)),
        run_dir=_path(folder),
        init_weights=_path(weights),
        teacher=_path(teacher),
        resume=resume,
    )
    job = settings.settle(request, overrides)
    startup.load_tensorflow()
    from sqznet.train import start

    try:
        run = start.train_job(
            job,
            strategy_name=strategy,
            replicas=replicas,
            callbacks=callbacks,
            deterministic=deterministic,
            max_bad_records=max_bad_records,
        )
    except Stopped as stopped:
        console.say(f"stopped by {stopped}; go on with sqznet.fit(folder={str(job.run_dir)!r}, resume=True)")
        if stopped.signal_number == signal.SIGINT:
            raise KeyboardInterrupt(f"the state is saved in {job.run_dir}") from None
        raise SystemExit(128 + stopped.signal_number) from None
    return TrainingRun(run.folder, run.recipe, list(run.history))


@dataclass(frozen=True)
class Shards:
    """Describes a built set of shards."""

    folder: Path
    """The folder of the set."""
    classes: tuple[str, ...]
    """The names of the folders of the classes, such as `n01440764`, in the order of the labels."""
    counts: dict[str, int]
    """The number of records of each split: train, val, test."""

    def _repr_html_(self) -> str:
        rows = [(split, f"{count:,}") for split, count in self.counts.items()]
        return notebook.table(["split", "records"], rows, f"{self.folder}: {len(self.classes):,} classes")


def build_shards(source: FilePath, out: FilePath, *, workers: int | None = None, **options: Any) -> Shards:
    """Builds TFRecord shards from photographs, as the command `python -m sqznet.data` does.

    If the set is already complete, the call only checks it. After an interruption, the same call finishes the set.

    Args:
        source: a folder that contains one folder of photographs for each class. Other sources are `folder:PATH`,
            `ilsvrc:PATH`, `tfds:NAME`, `tfrecord:PATH` and `synthetic`.
        out: folder of the set.
        workers: number of processes. None means all cores of this process.
        options: `seed`, `short_side`, `max_pixels`, `decoded`, `strict`, `holdout_per_class`, `test_files`,
            `label_offset`, `blacklist`, `shard_records` and `replace`, with the meaning of the flags of the same names.
            The flag for `replace` is `--update`.

    Raises:
        InputError: the source cannot be read, or `out` contains another set.
    """
    spec = f"folder:{source}" if isinstance(source, Path) or Path(source).is_dir() else source
    startup.load_tensorflow()
    from sqznet.data import build
    from sqznet.data.shard_plan import BuildOptions

    known = {field.name for field in dataclasses.fields(BuildOptions)}
    processing = BuildOptions(**{name: options.pop(name) for name in list(options) if name in known})
    manifest = build.build(spec, Path(out), options=processing, workers=workers or startup.cores(), **options)
    return Shards(manifest.folder, manifest.classes, {split: manifest.records(split) for split in manifest.splits})


def dataset(
    data: FilePath,
    split: str = "train",
    recipe: str | Recipe = "finetune",
    *,
    batch_size: int | None = None,
    image_size: int | None = None,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Reads shards as a `tf.data.Dataset` of batches, for Keras's `fit` or another training loop.

    One iteration over `train` is one epoch. The records are shuffled, cropped and augmented as in the recipe,
    differently in each epoch. The last records that do not fill a batch are left out. One iteration over another split
    gives every record once, in order. The last batch may be smaller than the others.

    Args:
        data: folder of shards.
        split: train, val or test.
        recipe: a name, a file, a run folder, or a `Recipe`.
        batch_size: number of images in a batch. None means the value of the recipe, or a smaller number for a small
            split.
        image_size: side of the images in pixels. None means the value of the recipe.
        seed: seed of the order and the crops. None means the value of the recipe.

    Returns:
        (images uint8 RGB 0 to 255 (batch, image_size, image_size, 3), labels int64 (batch,)), for Keras's loss
        `sparse_categorical_crossentropy`. If the recipe mixes images, the labels of `train` are probabilities, float32
        (batch, classes), for `categorical_crossentropy`.

    Raises:
        InputError: there is no such data, split or recipe.
    """
    startup.load_tensorflow()
    from sqznet.data import datasets

    chosen = _recipe(recipe, image_size)
    manifest = manifests.load(remote.folder(str(data)))
    if batch_size is None:
        batch_size = fitting.fitted(chosen, manifest.records(split), 1, ()).global_batch_size
    if split != "train":
        return datasets.in_order(manifest, split, chosen.preprocessing, batch_size)
    seed = chosen.seed if seed is None else seed
    return datasets.training_epoch(manifest, chosen.replace(global_batch_size=batch_size, seed=seed))


def _recipe(recipe: str | Recipe, image_size: int | None) -> Recipe:
    """Returns the recipe of a name, for another image size if one is given."""
    found = recipe if isinstance(recipe, Recipe) else recipes.load(str(recipe))
    return settings.override(found, {"image_size": image_size} if image_size else {})


def _path(path: FilePath | None) -> Path | None:
    return None if path is None else Path(path)


def _folder(path: FilePath | None) -> Path | None:
    """Returns a local folder, or a remote one for an address such as gs://bucket/folder."""
    return None if path is None else remote.folder(str(path))


def _names(names: _Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
