"""Defines the callbacks of a training, and ready ones for TensorBoard, CSV, MLflow and Weights & Biases.

If there are several workers, only the chief calls the callbacks. An exception in a callback ends the training. The
finished epoch is saved before.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.recipes import Recipe
from sqznet.runs.best import Line

if TYPE_CHECKING:
    import keras


class ActiveRun(Protocol):
    """The run that calls a callback."""

    recipe: Recipe
    model: keras.Model

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def history(self) -> list[Line]:
        """The lines of the finished epochs."""

    def stop(self) -> None:
        """Saves the state and ends the training after the current steps."""


class Callback:
    """Base class of callbacks. Override the methods that you need.

    `run` is the run. Its attributes are `folder`, `recipe`, `model` and `history`, and `run.stop()` ends the training.
    Its type is `sqznet.train.callbacks.ActiveRun`.

    `line` contains the metrics of an epoch: `epoch` (the first is 1), `image_size` (pixels), `learning_rate`,
    `train_loss`, `train_top1`, `images_per_second`, `seconds`, and in evaluated epochs `val_loss`, `val_top1`,
    `val_top5`, `val_balanced_accuracy` and `val_macro_f1`. Accuracies and F1 are numbers from 0 to 1. With class
    weights, `train_loss` is the weighted loss.
    """

    def on_train_begin(self, run: ActiveRun) -> None:
        """Is called once before the first step, also when a run is resumed."""

    def on_epoch_end(self, run: ActiveRun, line: Line) -> None:
        """Is called after each epoch, when the epoch is evaluated and saved."""

    def on_train_end(self, run: ActiveRun) -> None:
        """Is called once at the end, also after an interruption or an error."""


class TensorBoard(Callback):
    """Writes event files for TensorBoard. Every training has this callback, for the folder `events` of its run."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def on_train_begin(self, run: ActiveRun) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, run: ActiveRun, line: Line) -> None:
        import tensorflow as tf

        with self._writer.as_default(step=int(line["epoch"])):
            for name in line.keys() - {"epoch"}:
                tf.summary.scalar(name, line[name])
        self._writer.flush()

    def on_train_end(self, run: ActiveRun) -> None:
        self._writer.close()


class CSVLogger(Callback):
    """Writes the metrics of all epochs to a CSV file. The file is replaced after each epoch."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_epoch_end(self, run: ActiveRun, line: Line) -> None:
        columns = list(dict.fromkeys(name for each in run.history for name in each))
        files.write_csv(self.path, columns, ([each.get(name) for name in columns] for each in run.history))


class MLflow(Callback):
    """Logs the recipe, the metrics and the curve to MLflow (`pip install 'sqznet[mlflow]'`).

    Args:
        experiment: name of the experiment. None means MLflow's default.
        tracking_uri: address or folder of the tracking server. None means MLflow's default.

    Raises:
        InputError: MLflow is not installed.
    """

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        try:
            import mlflow
        except ImportError:
            raise _missing("mlflow") from None
        self._mlflow: Any = mlflow
        self.experiment, self.tracking_uri = experiment, tracking_uri

    def on_train_begin(self, run: ActiveRun) -> None:
        if self.tracking_uri:
            self._mlflow.set_tracking_uri(self.tracking_uri)
        if self.experiment:
            self._mlflow.set_experiment(self.experiment)
        self._mlflow.start_run(run_name=run.folder.name)
        self._mlflow.log_params(run.recipe.to_dict())

    def on_epoch_end(self, run: ActiveRun, line: Line) -> None:
        self._mlflow.log_metrics(_metrics(line), step=int(line["epoch"]))

    def on_train_end(self, run: ActiveRun) -> None:
        self._mlflow.end_run()


class WandB(Callback):
    """Logs the recipe and the metrics to Weights & Biases (`pip install 'sqznet[wandb]'`).

    Args:
        options: options of `wandb.init`, such as `project` and `mode`.

    Raises:
        InputError: the package wandb is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb") from None
        self._wandb: Any = wandb
        self.options = options
        self._run: Any = None

    def on_train_begin(self, run: ActiveRun) -> None:
        self._run = self._wandb.init(**{"name": run.folder.name, "config": run.recipe.to_dict(), **self.options})

    def on_epoch_end(self, run: ActiveRun, line: Line) -> None:
        self._run.log(_metrics(line), step=int(line["epoch"]))

    def on_train_end(self, run: ActiveRun) -> None:
        self._run.finish()


def _metrics(line: Line) -> Line:
    return {name: value for name, value in line.items() if name != "epoch"}


def _missing(package: str) -> InputError:
    return InputError(f"the package {package} is not installed: pip install 'sqznet[{package}]'")
