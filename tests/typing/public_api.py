"""Uses every public name of sqznet, with the types that the API page states.

`mypy --strict` checks this file (`test_public_api.py`). Nothing runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import sqznet


class StopAtNinety(sqznet.Callback):
    """Ends a training as soon as its top-1 accuracy is 90 %."""

    def on_train_begin(self, run: sqznet.ActiveRun) -> None:
        print(run.folder, run.recipe.epochs)

    def on_epoch_end(self, run: sqznet.ActiveRun, line: dict[str, float]) -> None:
        if line.get("val_top1", 0.0) >= 0.9:
            run.stop()

    def on_train_end(self, run: sqznet.ActiveRun) -> None:
        print(len(run.history))


def build(photographs: Path) -> sqznet.Shards:
    shards = sqznet.build_shards(photographs, "data/mine", seed=1, workers=2)
    folder: Path = shards.folder
    classes: tuple[str, ...] = shards.classes
    counts: dict[str, int] = shards.counts
    print(folder, classes, counts)
    return shards


def train(shards: sqznet.Shards) -> sqznet.TrainingRun:
    callbacks: list[sqznet.Callback] = [
        StopAtNinety(),
        sqznet.CSVLogger("metrics.csv"),
        sqznet.TensorBoard(Path("events")),
        sqznet.MLflow(experiment="mine", tracking_uri="mlruns"),
        sqznet.WandB(project="mine", mode="offline"),
    ]
    run = sqznet.fit(shards.folder, "finetune", weights="squeezenet-v1.1", callbacks=callbacks, epochs=4)
    recipe: sqznet.Recipe = run.recipe
    history: list[dict[str, float]] = run.history
    print(recipe.learning_rate, history[-1]["val_top1"])
    return sqznet.fit(folder=run.folder, resume=True, teacher=None, strategy="one", replicas=None)


def classify(classifier: sqznet.Classifier, photographs: list[str]) -> None:
    for one in ("photo.jpg", Path("photo.jpg"), Image.new("RGB", (300, 200)), np.zeros((200, 300, 3), np.uint8)):
        print(classifier.predict(one, top=3))
    answer = classifier.predict(photographs)
    if isinstance(answer, sqznet.Predictions):
        paths: list[Path] = answer.paths
        failures: dict[str, str] = answer.failures
        ranking: sqznet.Ranking = answer[0]
        best: sqznet.Prediction = ranking[0]
        is_answer: bool = ranking.answered
        threshold: float | None = ranking.threshold
        print(is_answer, threshold, ranking.answer)
        label: str = best.label
        probability: float = best.probability
        print(paths, failures, label, probability, best.index, best.class_name)
    size: int = classifier.image_size
    probabilities: np.ndarray = classifier.probabilities(np.zeros((1, size, size, 3), np.uint8))
    print(probabilities, classifier.classes, classifier.path, classifier.preprocessing.resize_to)


def explain(classifier: sqznet.Classifier) -> None:
    found: sqznet.ClassMap = classifier.class_map("photo.jpg", top=3)
    found.picture(found.ranking[0].index).save("map.png")


def measure(classifier: sqznet.Classifier) -> sqznet.Evaluation:
    evaluation = classifier.evaluate("data/mine", split="test")
    top1: float = evaluation.top1
    interval: tuple[float, float] = evaluation.top1_interval
    by_class: dict[str, float] = evaluation.by_class
    report: dict[str, Any] = evaluation.to_dict()
    n: int = evaluation.n
    print(top1, interval, evaluation.top5, evaluation.top5_interval, by_class, report, n, evaluation.note)
    return evaluation


def export(classifier: sqznet.Classifier) -> None:
    bundle: sqznet.Bundle = classifier.export("out", formats=["tflite", "onnx"], quantize="int8", max_drop=0.02)
    files: list[Path] = bundle.files
    try:
        bundle.check()
    except sqznet.CheckFailed as failed:
        print(failed)
    print(bundle.folder, files, bundle.manifest["classes"])
    classifier.save("mine.keras")


def with_keras(shards: sqznet.Shards) -> sqznet.Classifier:
    model = sqznet.SqueezeNet("v1.1", weights=None, classes=len(shards.classes), image_size=128, dropout=0.2)
    train_set = sqznet.dataset(shards.folder, "train", "finetune", batch_size=16, image_size=128, seed=3)
    model.fit(train_set, validation_data=sqznet.dataset(shards.folder, "val", image_size=128))
    return sqznet.Classifier.from_keras(model, shards.classes, image_size=128, data=shards.folder)


def main() -> None:
    sqznet.set_verbose(False)
    print(sqznet.__version__)
    try:
        shards = build(Path("photos"))
        classify(train(shards).best, ["a.jpg", "b.jpg"])
        explain(sqznet.load("runs/mine"))
        measure(sqznet.load("model.tflite", threads=2))
        export(with_keras(shards))
    except sqznet.InputError as error:
        print(error)
