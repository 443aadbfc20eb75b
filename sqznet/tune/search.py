"""Runs the trials of a search.

Each trial is a run of `sqznet.train` in its own process. An oracle chooses its settings.

The folder of a trial is a run folder. A restarted search keeps the finished trials, and the unfinished trial continues
from its last checkpoint. The search forwards a signal to the trial, and the trial saves its state and ends. If the
search is killed, the trial also saves its state and ends (`sqznet.core.child`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import signal
import subprocess
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.errors import FailedTrialError, FatalError

from sqznet.core import child, console, files, locks
from sqznet.core.errors import InputError, Stopped, TryAgain
from sqznet.recipes import Recipe
from sqznet.runs import best, history, run_folder
from sqznet.tune import oracles
from sqznet.tune import space as spaces

PROJECT = "trials"
TRIAL = "trial.json"
_STOPS = (signal.SIGINT, signal.SIGTERM)
_HYPERBAND_EPOCHS = "tuner/epochs"


@dataclasses.dataclass(frozen=True)
class Trial:
    """Describes a finished trial."""

    name: str
    values: dict[str, Any]  # of the searched fields
    epochs: int
    top1: float | None  # the best epoch's val top-1, 0 to 1; None if the trial failed
    reason: str  # why it failed; else empty


class Search(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs the trials of an oracle, one after the other."""

    def __init__(self, oracle: keras_tuner.Oracle, recipe: Recipe, folder: Path, flags: list[str]) -> None:
        """
        Args:
            recipe: the values of a trial replace fields of this recipe.
            folder: folder of the search.
            flags: flags of `sqznet.train`, such as --data and --strategy.
        """
        self.recipe, self.folder, self.flags = recipe, folder, flags
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the file that it continues from
            super().__init__(oracle, directory=str(folder), project_name=PROJECT)

    def search(self) -> None:
        """Runs trials until the oracle has none left.

        Raises:
            Stopped: a signal has stopped the search.
            InputError: a trial could not continue, or too many trials in a row have failed.
        """
        try:
            super().search()
        except FatalError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None

    def run_trial(self, trial: Any) -> float:
        try:
            recipe = recipe_of(self.recipe, trial.hyperparameters.values)
            epochs = console.counted(recipe.epochs, "epoch")
            console.say(f"trial {trial.trial_id}: {described(trial.hyperparameters.values)}; {epochs}")
            top1 = train(recipe, run_dir_of(self.folder, trial.trial_id), self.flags)["val_top1"]
        except TrainingFailed as failed:
            console.say(f"trial {trial.trial_id} failed: {failed}")
            raise FailedTrialError(str(failed)) from None
        except Exception as error:
            raise FatalError(str(error)) from error  # KerasTuner counts any other as a failed trial
        console.say(f"trial {trial.trial_id}: val top-1 {console.percent(top1)}")
        return top1

    def on_trial_end(self, trial: Any) -> None:
        try:
            super().on_trial_end(trial)
        except RuntimeError:
            raise InputError(
                f"{oracles.MAX_FAILURES} trials in a row have failed, the last one with: {_reason(trial.message)}. Try "
                "lower values with --space, and look at output.log in the trials' folders"
            ) from None

    def load_model(self, trial: Any) -> Any:
        raise NotImplementedError("the trial's run folder has its best.keras")

    # KerasTuner's methods would write an empty file, and continue a search only if it exists.

    def _get_tuner_fname(self) -> str:
        return self.oracle._get_oracle_fname()

    def save(self) -> None:
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        if not self._is_worker():
            self.oracle.reload()


class TrainingFailed(Exception):
    """A training has failed. The text contains the last line of its output."""


def train(recipe: Recipe, run_dir: Path, flags: list[str]) -> best.Line:
    """Starts or continues a training in its own process. Returns the best epoch.

    Raises:
        TrainingFailed: the training ended with an error.
        TryAgain: the training ended with a temporary failure.
        Stopped: a signal has stopped the training or the search.
    """
    # Waits for a training that a killed search has left: that training is saving its state.
    with locks.locked(run_dir / run_folder.LOCK, run_folder.trains_in(run_dir)):
        files.write_json(run_dir / TRIAL, {"recipe": recipe.to_dict()})
    flags = [*flags, f"--recipe={run_dir / TRIAL}", f"--run_dir={run_dir}", "--resume"]
    processes: list[subprocess.Popen] = []
    log = run_dir / "output.log"
    with log.open("ab") as output, child.forwarding_signals(processes) as asked:
        processes.append(child.start("sqznet.train", flags, stdout=output, stderr=subprocess.STDOUT))
        if asked:  # the signal came before the process was in the list
            processes[0].terminate()
        code = _awaited(processes[0], run_dir, recipe.epochs)
    if asked:
        raise Stopped(asked[0])
    for number in _STOPS:
        if code in (-number, 128 + number):
            raise Stopped(number)
    said = _last(log.read_text(errors="replace"))
    if code == TryAgain.exit_code and not said.startswith("out of memory"):  # other settings may need less
        raise TryAgain(f"{run_dir} could not continue: {said}")
    if code < 0:
        raise TrainingFailed(f"it was killed by {signal.Signals(-code).name}, perhaps because memory was short")
    epoch = history.read(run_dir).best if (run_dir / run_folder.CONFIG).is_file() else None
    if code or epoch is None:
        raise TrainingFailed(said)
    return epoch


def _awaited(training: subprocess.Popen, run_dir: Path, epochs: int) -> int:
    """Waits for a training, with a progress bar of its epochs. Returns its exit code."""

    def watch() -> None:
        bar.update(task, completed=_epochs_finished(run_dir))

    with console.progress("epochs/s", watch, transient=True) as bar:
        task = bar.add_task(f"epochs of {run_dir.name}", total=epochs)
        return training.wait()


def _epochs_finished(run_dir: Path) -> int:
    try:
        return max(0, (run_dir / "metrics.csv").read_bytes().count(b"\n") - 1)
    except OSError:  # there is none yet
        return 0


def _last(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "without a message"


def _reason(message: str | None) -> str:
    """Returns the reason why a trial failed, from the traceback that KerasTuner stores."""
    return _last(message).removeprefix(f"{FailedTrialError.__module__}.{FailedTrialError.__name__}: ")


def recipe_of(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """Returns the recipe of a trial. With Hyperband, the values of the trial contain the number of epochs."""
    made = spaces.apply(recipe, _searched(values)).replace(name=f"{recipe.name}-trial")
    epochs = values.get(_HYPERBAND_EPOCHS)
    if not epochs:
        return made
    # A shorter trial has a complete but shorter schedule, including the warm-up.
    warmup = made.warmup_epochs * epochs / made.epochs
    return made.replace(epochs=epochs, total_steps=None, warmup_epochs=warmup)


def run_dir_of(folder: Path, trial_id: str) -> Path:
    return folder / PROJECT / f"run_{trial_id}"


def described(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in _searched(values).items())


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _searched(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values without KerasTuner's own values."""
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def finished(folder: Path) -> list[Trial]:
    """Reads from KerasTuner's files the trials of a search that have ended, best first.

    Raises:
        InputError: a file is damaged.
    """
    trials = []
    for path in sorted((folder / PROJECT).glob("trial_*/trial.json")):
        try:
            state = json.loads(path.read_text())
            values = state["hyperparameters"]["values"]
            if state["status"] == "COMPLETED":
                top1, reason = float(state["score"]), ""
            elif state["status"] in ("FAILED", "INVALID"):
                top1, reason = None, _reason(state["message"])
            else:
                continue
            config = run_dir_of(folder, state["trial_id"]) / TRIAL
            epochs = json.loads(config.read_text())["recipe"]["epochs"] if config.is_file() else 0
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path} is not a trial's record ({type(error).__name__}: {error})") from None
        trials.append(Trial(state["trial_id"], _searched(values), epochs, top1, reason))
    return sorted(trials, key=lambda trial: _rank(folder, trial), reverse=True)


def _rank(folder: Path, trial: Trial) -> tuple[float, float]:
    """Returns a sort key that is larger for a better trial. If top-1 is equal, the lower val loss decides."""
    if trial.top1 is None:
        return -1.0, 0.0
    try:
        epoch = history.read(run_dir_of(folder, trial.name)).best
    except InputError:  # its run folder was removed
        epoch = None
    return trial.top1, best.rank(epoch)[1] if epoch else -math.inf
