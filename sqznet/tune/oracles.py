"""KerasTuner's oracles, which say what to try next, so that a kill at any moment changes nothing.

Theirs write oracle.json and trial.json in place, so a kill could leave half a file. Between the two files a kill could
lose a trial, or have it trained twice. Theirs also draw at random where the seed is 0.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from sqznet.core import files
from sqznet.core.errors import InputError
from sqznet.tune import space as spaces

OBJECTIVE = "val_top1"
FACTOR = 3  # of Hyperband: a third of the trials goes on, for three times the epochs (Li et al. 2016, arXiv 1603.06560)
FAILURES = 5  # in a row, after which a search stops


class _Lasting(keras_tuner.Oracle):
    """An oracle whose files are whole at any moment, and which goes on from them as if it had not been stopped."""

    trials: dict[str, Any]
    _retry_queue: list[str]

    def save(self) -> None:
        _write(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        _write(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self) -> None:
        super().reload()  # trials that were under way come first, again
        # A trial has its file before the oracle's lists it. A kill in between means that it never began: it is drawn
        # again, with the same values.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}

    def create_trial(self, tuner_id: str) -> Any:
        # A trial's end is written before it is taken off those under way. After a kill in between it is over.
        self._retry_queue = [trial_id for trial_id in self._retry_queue if trial_id not in self.end_order]
        return super().create_trial(tuner_id)


def _write(path: Path, state: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(state))  # in the order of the fields, which tables follow


class Random(_Lasting, keras_tuner.oracles.RandomSearchOracle):
    """KerasTuner's random search."""


class Bayesian(_Lasting, keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's, with a random state that depends on the number of the trial: theirs is lost with the process."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        self._random_state = np.random.RandomState(self.seed + len(self.trials))
        return super().populate_space(trial_id)


class Hyperband(_Lasting, keras_tuner.oracles.HyperbandOracle):
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


def make(tuner: str, space: spaces.Space, trials: int, epochs: int, seed: int) -> keras_tuner.Oracle:
    """KerasTuner's oracle of that name, which ends after so many trials.

    Raises:
        InputError: it needs a package that is not installed.
    """
    if tuner == "bayesian" and not all(map(importlib.util.find_spec, ("scipy", "sklearn"))):
        raise InputError("--tuner=bayesian needs SciPy and scikit-learn: pip install scipy scikit-learn")
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": spaces.declare(space),
        "seed": seed + 1,  # KerasTuner takes 0 for none, and draws one
        "max_consecutive_failed_trials": FAILURES,
    }
    if tuner == "hyperband":
        oracle = Hyperband(trials, max_epochs=epochs, factor=FACTOR, hyperband_iterations=trials, **common)
    else:
        oracle = {"random": Random, "bayesian": Bayesian}[tuner](max_trials=trials, **common)
    oracle.verbose = 0  # we say what it would
    return oracle
