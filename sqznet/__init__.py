"""sqznet: train SqueezeNet on TFRecord shards and export it for phones, each file verified in its own runtime.

    classifier = sqznet.load("runs/mine")
    classifier.predict("photo.jpg")

docs/api.md describes all public names. `import sqznet` is fast, because each name is imported when it is first used.
Every command is a module: `sqznet.data`, `sqznet.weights`, `sqznet.train`, `sqznet.tune`, `sqznet.launch`,
`sqznet.runs`, `sqznet.evaluate`, `sqznet.predict`, `sqznet.export`, `sqznet.compress`, `sqznet.benchmark`,
`sqznet.serve`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sqznet.core import processor
from sqznet.core.version import __version__

if TYPE_CHECKING:
    from sqznet.api import Classifier, Shards, SqueezeNet, TrainingRun, build_shards, dataset, fit, load
    from sqznet.core.console import set_verbose
    from sqznet.core.errors import CheckFailed, InputError
    from sqznet.evaluate.evaluation import Evaluation
    from sqznet.export.session import Bundle
    from sqznet.predict.class_maps import ClassMap
    from sqznet.predict.prediction import Prediction, Predictions, Ranking
    from sqznet.recipes import Recipe
    from sqznet.train.callbacks import ActiveRun, Callback, CSVLogger, MLflow, TensorBoard, WandB

_MODULES = {  # the module of each public name
    "sqznet.api": (
        "Classifier",
        "Shards",
        "SqueezeNet",
        "TrainingRun",
        "build_shards",
        "dataset",
        "fit",
        "load",
    ),
    "sqznet.core.console": ("set_verbose",),
    "sqznet.core.errors": ("CheckFailed", "InputError"),
    "sqznet.evaluate.evaluation": ("Evaluation",),
    "sqznet.export.session": ("Bundle",),
    "sqznet.predict.class_maps": ("ClassMap",),
    "sqznet.predict.prediction": ("Prediction", "Predictions", "Ranking"),
    "sqznet.recipes": ("Recipe",),
    "sqznet.train.callbacks": ("ActiveRun", "CSVLogger", "Callback", "MLflow", "TensorBoard", "WandB"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ActiveRun",
    "Bundle",
    "CSVLogger",
    "Callback",
    "CheckFailed",
    "ClassMap",
    "Classifier",
    "Evaluation",
    "InputError",
    "MLflow",
    "Prediction",
    "Predictions",
    "Ranking",
    "Recipe",
    "Shards",
    "SqueezeNet",
    "TensorBoard",
    "TrainingRun",
    "WandB",
    "__version__",
    "build_shards",
    "dataset",
    "fit",
    "load",
    "set_verbose",
]

processor.prefer_onednn()


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'sqznet' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
