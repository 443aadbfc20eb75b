"""Fixtures: small photographs, shards and a trained run, made once per session. Real files, no mocks."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sqznet.core import locks, startup

pytest_plugins = ["tests.ci"]

# A shell ignores SIGINT in its background jobs, and processes inherit this. Tests of Ctrl-C send SIGINT to theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the tests are about the processor, also where there are GPUs
startup.load_tensorflow()

import tensorflow as tf  # noqa: E402

# Before anything runs: the machine's processor as two devices, so that replicas can be tested without GPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# As training does, so that tests that use `Run` without `start.train` compute the same in every process.
tf.config.experimental.enable_op_determinism()

from sqznet import recipes  # noqa: E402
from sqznet.core import files  # noqa: E402
from sqznet.data import build, manifest  # noqa: E402
from sqznet.data.manifest import Manifest  # noqa: E402
from sqznet.data.shard_plan import BuildOptions  # noqa: E402
from sqznet.data.sources import synthetic  # noqa: E402
from sqznet.export import bundle as bundles  # noqa: E402
from sqznet.export import variants  # noqa: E402
from sqznet.images.preprocessing import Preprocessing  # noqa: E402
from sqznet.network import keras_file  # noqa: E402
from sqznet.network.keras_file import Card  # noqa: E402
from sqznet.predict import inference, squeezenet  # noqa: E402
from sqznet.train import start  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data"
CLASSES = ("ball", "house", "star")
MAP_FILES = ("savedmodel", "model.tflite", "model_int8.tflite", "model.onnx", "model_int8.onnx")
UNEVEN = (25, 10, 3)  # training photographs of the classes of `uneven_set`
COUNTS = {"train": 40, "val": 11, "test": 9}

TINY = recipes.IMAGENETTE.replace(
    name="tiny",
    image_size=32,
    resize_to=32,
    train_sizes=(),
    epochs=3,
    warmup_epochs=1,
    global_batch_size=8,
    learning_rate=0.005,  # at 0.01 some classes die, and damage to them shows nowhere
    seed=3,  # with most others a quarter of the photographs end with all logits at 0
    steps_per_call=4,
)


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the processes of one test session share: the first one makes it, the others wait."""
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder, made = shared / name, shared / f"{name}.made"
    with locks.locked(shared / f"{name}.lock"):
        if not made.exists():
            files.remove(folder)  # what a failure left
            make(folder)
            made.touch()
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seeds what Keras takes its random weights from, so that no test depends on chance or on the tests before it."""
    random.seed(0)
    np.random.seed(0)
    tf.random.set_seed(None)  # `keras.utils.set_random_seed` of an earlier test would change the order of records


@pytest.fixture(scope="session")
def imagenette() -> Path:
    folder = SHARED / "imagenette"
    if not folder.is_dir():
        pytest.skip(f"needs the photographs of {folder}, which are not part of the project")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/val/test folders of drawn JPEGs in three classes."""
    return once(tmp_path_factory, "photographs", draw_photographs)


def draw_photographs(root: Path) -> None:
    for split, count in COUNTS.items():
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                key = f"{split}/{name}/{index}"
                content = synthetic.draw(key, synthetic.CLASSES.index(name), seed=0)
                (folder / f"{index:03d}.jpg").write_bytes(content)


def build_set(spec: str, out: Path, *, seed: int = 0, workers: int = 1, **options) -> Manifest:
    """A set as `python -m sqznet.data` builds it. Options are of `build.build` or BuildOptions."""
    of_build = ("holdout_per_class", "blacklist", "test_files", "beam_flags")
    chosen = {name: options.pop(name) for name in of_build if name in options}
    shard_records = options.pop("shard_records", 16)
    processing = BuildOptions(**options)
    return build.build(spec, out, seed=seed, options=processing, shard_records=shard_records, workers=workers, **chosen)


@pytest.fixture(scope="session")
def shard_set(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return manifest.load(once(tmp_path_factory, "set", lambda out: build_set(f"folder:{photographs}", out)))


@pytest.fixture(scope="session")
def uneven_set(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Classes of 25, 10 and 3 training photographs, in three shards."""

    def make(out: Path) -> None:
        cut = out.with_name(f"{out.name}-photographs")
        for split, sizes in (("train", UNEVEN), ("val", (4, 4, 4))):
            for name, size in zip(CLASSES, sizes, strict=True):
                (cut / split / name).mkdir(parents=True, exist_ok=True)
                for path in sorted((photographs / split / name).iterdir())[:size]:
                    shutil.copy(path, cut / split / name)
        build_set(f"folder:{cut}", out)

    return manifest.load(once(tmp_path_factory, "uneven", make))


@pytest.fixture(scope="session")
def trained_run(shard_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a small network with every kind of layer, trained for three epochs."""

    def train(run_dir: Path) -> None:
        start.train(shard_set, TINY, strategy_name="one", replicas=None, run_dir=run_dir, resume=False)

    return once(tmp_path_factory, "runs/tiny", train)


def run_file(path: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities of a file as a writer leaves it: without a card, so that `inference.load` refuses it."""
    runtime: inference.Runtime = (
        inference.SavedModelRuntime(path) if path.is_dir() else inference.FILE_RUNTIMES[path.suffix](path, None)
    )
    card = Card(None, Preprocessing(runtime.image_size, runtime.image_size))
    return inference.Predictor(path, runtime, card).predict(images)


def export(
    run_dir: Path,
    shard_set: Manifest,
    out: Path,
    *,
    files: str = "all",
    quantize: str = "none",
    chosen: list[variants.Variant] | None = None,
    **options,
):
    """What `python -m sqznet.export` does, without the command line."""
    gate = {"budget": 5 * 1024**2, "max_drop": 0.1, "split": "val", **options.pop("gate", {})}
    return bundles.export(
        run_dir,
        *inference.load_keras(run_dir),
        shard_set,
        variants=chosen or variants.choose([files], [quantize]),
        gate=bundles.Gate(**gate),
        out=out,
        latency_runs=0,
        calibration_records=32,
        **options,
    )


@pytest.fixture(scope="session")
def bundle(trained_run: Path, shard_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with every file that there can be. Read only: copy it to change it."""
    return once(tmp_path_factory, "artifacts/tiny", lambda out: export(trained_run, shard_set, out, quantize="all"))


@pytest.fixture(scope="session")
def map_model(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of `trained_run` for photographs of 96 pixels, which give a class map of 5 x 5 cells."""

    def save(folder: Path) -> None:
        model, card = inference.load_keras(trained_run)
        card = dataclasses.replace(card, preprocessing=card.preprocessing.at(96))
        folder.mkdir(parents=True)
        keras_file.save(squeezenet.at_size(model, 96), card, folder / "model.keras")

    return once(tmp_path_factory, "maps", save) / "model.keras"


@pytest.fixture(scope="session")
def map_bundle(map_model: Path, shard_set: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder with MAP_FILES, which have class maps. Read only: copy it to change it."""

    def export_some(out: Path) -> None:
        chosen = [each for each in variants.VARIANTS if each.file_name in MAP_FILES]
        export(map_model, shard_set, out, chosen=chosen, with_class_map=True)

    return once(tmp_path_factory, "artifacts/maps", export_some)
