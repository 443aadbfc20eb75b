"""Defines KerasTuner's oracles, which choose the next trial. A kill at any moment does no harm to them.

KerasTuner writes oracle.json and trial.json in place. Therefore a kill could leave half a file, lose a trial, or train
a trial twice. KerasTuner also treats seed 0 as no seed.
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
from sqznet.recipes import recipe
from sqznet.tune import space as spaces

OBJECTIVE = "val_top1"
FACTOR = (
    3  # of Hyperband: a third of the trials continues with three times the epochs (Li et al. 2016, arXiv 1603.06560)
)
MAX_FAILURES = 5  # failed trials in a row that stop a search


class _DurableOracle(keras_tuner.Oracle):
    """An oracle that writes its files atomically and continues from these files exactly."""

    trials: dict[str, Any]
    _retry_queue: list[str]

    def save(self) -> None:
        _write(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        _write(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self) -> None:
        super().reload()  # it puts trials that were running first
        # A trial is written to its own file first, then to the oracle's. After a kill in between it has not started:
        # the oracle draws it again, with the same values.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}

    def create_trial(self, tuner_id: str) -> Any:
        # The end of a trial is written first. Then the trial leaves the queue. After a kill in between, the trial has
        # ended.
        self._retry_queue = [trial_id for trial_id in self._retry_queue if trial_id not in self.end_order]
        return super().create_trial(tuner_id)


def _write(path: Path, state: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(state))  # not sorted: tables keep the order of the fields


class Random(_DurableOracle, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class Bayesian(_DurableOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimization.

    The random state depends only on the number of the trial, so a restart does not change it.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        self._random_state = np.random.RandomState(self.seed + len(self.trials))
        return super().populate_space(trial_id)


class Hyperband(_DurableOracle, keras_tuner.oracles.HyperbandOracle):
    """Hyperband with fewer short trials at its start, so that the best of them can continue within `trials` trials.

    KerasTuner's Hyperband starts with many short trials. A search of a dozen trials would end before any of them
    continues.
    """

    def __init__(self, trials: int, **options: Any) -> None:
        self._allowed = trials  # super().__init__ needs it
        super().__init__(**options)
        self.max_trials = trials  # the default is the number of all rounds of all brackets

    def _get_num_brackets(self) -> int:
        def trials(bracket: int) -> int:
            return sum(self._get_size(bracket, number) for number in range(self._get_num_rounds(bracket)))

        brackets = super()._get_num_brackets()
        return next((each for each in range(brackets, 1, -1) if trials(each - 1) <= self._allowed), 1)


def _declared(space: spaces.Space) -> keras_tuner.HyperParameters:
    declared = keras_tuner.HyperParameters()
    for field, values in space.items():
        if isinstance(values, list):
            declared.Choice(field, values, ordered=False if isinstance(values[0], str) else None)
        else:
            kind = declared.Int if recipe.KINDS[field] in spaces.WHOLE else declared.Float
            kind(field, values["min"], values["max"], sampling=values.get("scale", "linear"))
    return declared


def make(tuner: str, space: spaces.Space, trials: int, epochs: int, seed: int) -> keras_tuner.Oracle:
    """Returns the oracle of that name, which ends after `trials` trials.

    Raises:
        InputError: the oracle needs a package that is not installed.
    """
    if tuner == "bayesian" and not all(map(importlib.util.find_spec, ("scipy", "sklearn"))):
        raise InputError("--tuner=bayesian needs SciPy and scikit-learn: pip install scipy scikit-learn")
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": _declared(space),
        "seed": seed + 1,  # KerasTuner takes 0 as no seed
        "max_consecutive_failed_trials": MAX_FAILURES,
    }
    if tuner == "hyperband":
        oracle = Hyperband(trials, max_epochs=epochs, factor=FACTOR, hyperband_iterations=trials, **common)
    else:
        oracle = {"random": Random, "bayesian": Bayesian}[tuner](max_trials=trials, **common)
    oracle.verbose = 0  # Search prints the same
    return oracle
