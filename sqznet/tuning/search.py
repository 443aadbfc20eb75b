"""Trials: each a run of `sqznet.train` in a process of its own, with KerasTuner's oracle saying what to try next.

A trial's folder is a run folder. Killed and started again, finished trials stand, and the one under way goes on from
its last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.errors import FailedTrialError

from sqznet import console, files, runs
from sqznet.errors import InputError
from sqznet.recipes import Recipe
from sqznet.training import run_folder
from sqznet.tuning import space as spaces

TUNERS = ("random", "bayesian", "hyperband")
PROJECT = "trials"
OBJECTIVE = "val_top1"
TRIAL = "trial.json"
FACTOR = 3  # of Hyperband: a third of the trials goes on, for three times the epochs (Li et al. 2016, arXiv 1603.06560)
_HYPERBAND_EPOCHS = "tuner/epochs"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A finished trial."""

    name: str
    values: dict[str, Any]  # of the fields that are searched
    epochs: int
    top1: float | None  # the best epoch's val top-1, 0 to 1; None if the trial failed
    reason: str  # why it failed; else empty


class Hyperband(keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's, beginning with the most trials that leave room for the best of them to go on.

    Theirs begins with so many short trials that a dozen in all would be over before any had gone on.
    """

    def __init__(self, trials: int, **options: Any) -> None:
        self._allowed = trials  # asked for while theirs is made
        super().__init__(**options)
        self.max_trials = trials  # theirs counts rounds over all its brackets otherwise

    def _get_num_brackets(self) -> int:
        def trials(bracket: int) -> int:
            return sum(self._get_size(bracket, number) for number in range(self._get_num_rounds(bracket)))

        brackets = super()._get_num_brackets()
        return next((each for each in range(brackets, 1, -1) if trials(each - 1) <= self._allowed), 1)


def make_oracle(tuner: str, space: spaces.Space, trials: int, epochs: int, seed: int) -> keras_tuner.Oracle:
    """KerasTuner's oracle of that name, which ends after so many trials."""
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": spaces.declare(space),
        "seed": seed,
        "max_consecutive_failed_trials": 5,
    }
    if tuner == "hyperband":
        oracle = Hyperband(trials, max_epochs=epochs, factor=FACTOR, hyperband_iterations=trials, **common)
    else:
        kinds = {
            "random": keras_tuner.oracles.RandomSearchOracle,
            "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        }
        oracle = kinds[tuner](max_trials=trials, **common)
    oracle.verbose = 0  # we say what it would
    return oracle


class Search(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs the trials that the oracle asks for, one after the other."""

    def __init__(self, oracle: keras_tuner.Oracle, recipe: Recipe, folder: Path, flags: list[str]) -> None:
        """
        Args:
            recipe: what the values of a trial replace fields of.
            folder: of the search; trials are in a folder of it.
            flags: for `sqznet.train`: data, strategy and the like.
        """
        self.recipe, self.folder, self.flags = recipe, folder, flags
        with contextlib.redirect_stdout(io.StringIO()):  # it says which file it goes on from
            super().__init__(oracle, directory=str(folder), project_name=PROJECT)

    def run_trial(self, trial: Any) -> float:
        recipe = recipe_of(self.recipe, trial.hyperparameters.values)
        console.say(f"trial {trial.trial_id}: {described(trial.hyperparameters.values)}; {recipe.epochs} epochs")
        try:
            top1 = train(recipe, run_dir_of(self.folder, trial.trial_id), self.flags)
        except TrainingFailed as failed:
            console.say(f"trial {trial.trial_id} failed: {failed}")
            raise FailedTrialError(str(failed)) from None
        console.say(f"trial {trial.trial_id}: val top-1 {console.percent(top1)}")
        return top1

    def load_model(self, trial: Any) -> Any:
        raise NotImplementedError("the trial's run folder has its best.keras")


class TrainingFailed(Exception):
    """A training that did not end; with its last words."""


def train(recipe: Recipe, run_dir: Path, flags: list[str]) -> float:
    """Trains in a process of its own, or goes on with it; returns the best epoch's val top-1, 0 to 1.

    Raises:
        TrainingFailed: it ended with an error.
        KeyboardInterrupt: it was asked to stop, and so are we.
    """
    files.write_json(run_dir / TRIAL, {"recipe": recipe.to_dict()})
    command = [sys.executable, "-m", "sqznet.train", *flags, f"--recipe={run_dir / TRIAL}", f"--run_dir={run_dir}"]
    with (run_dir / "output.log").open("ab") as log:
        code = subprocess.run([*command, "--resume"], stdout=log, stderr=subprocess.STDOUT).returncode
    if code >= 128:
        raise KeyboardInterrupt
    best = runs.read(run_dir).best if (run_dir / run_folder.CONFIG).is_file() else None
    if code or best is None:
        raise TrainingFailed(_last_line(run_dir / "output.log"))
    return best["val_top1"]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "without a word"


def recipe_of(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """What a trial trains. Hyperband gives the epochs; all else is the space's."""
    searched = {name: value for name, value in values.items() if not name.startswith("tuner/")}
    made = spaces.apply(recipe, searched).replace(name=f"{recipe.name}-trial")
    epochs = values.get(_HYPERBAND_EPOCHS)
    if not epochs:
        return made
    # A shorter trial is a shorter schedule, warm-up included, not the beginning of a longer one.
    warmup = made.warmup_epochs * epochs / made.epochs
    return made.replace(epochs=epochs, total_steps=None, warmup_epochs=warmup)


def run_dir_of(folder: Path, trial_id: str) -> Path:
    return folder / PROJECT / f"run_{trial_id}"


def described(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
        if not name.startswith("tuner/")
    )


def finished(folder: Path) -> list[Trial]:
    """The trials of a search that are over, best first, as KerasTuner's own files have them.

    Raises:
        InputError: a file of them is damaged.
    """
    trials = []
    for path in sorted((folder / PROJECT).glob("trial_*/trial.json")):
        try:
            state = json.loads(path.read_text())
            values = state["hyperparameters"]["values"]
            if state["status"] == "COMPLETED":
                top1, reason = float(state["score"]), ""
            elif state["status"] in ("FAILED", "INVALID"):
                top1, reason = None, (state["message"] or "").strip().splitlines()[-1]
            else:
                continue
            config = run_dir_of(folder, state["trial_id"]) / TRIAL
            epochs = json.loads(config.read_text())["recipe"]["epochs"] if config.is_file() else 0
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path} is not a trial's record ({type(error).__name__}: {error})") from None
        searched = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        trials.append(Trial(state["trial_id"], searched, epochs, top1, reason))
    return sorted(trials, key=lambda trial: -1.0 if trial.top1 is None else trial.top1, reverse=True)
