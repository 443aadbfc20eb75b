"""Defines the results of `Classifier.predict`: the likeliest classes of photographs, also as HTML for notebooks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sqznet.core import console, metrics, notebook
from sqznet.predict.inference import Predictor

SHOWN = 12  # photographs of a folder in a notebook
NOT_SURE = "not sure"


@dataclass(frozen=True)
class Prediction:
    """Describes one class for one photograph."""

    label: str
    """The name of the class for people, such as `tench`."""
    probability: float
    """The probability of the class, from 0 to 1."""
    index: int
    """The number of the network's output for this class. The first output is 0."""
    class_name: str
    """The name of the class in the data set, such as `n01440764`. In many sets it equals `label`."""

    def __str__(self) -> str:
        return f"{self.label} {console.percent(self.probability)}"

    def _repr_html_(self) -> str:
        return notebook.table(["class", "probability"], [(self.label, console.percent(self.probability))])


class Ranking(list[Prediction]):
    """Lists the most probable classes of one photograph. The most probable class is the first.

    Attributes:
        threshold: the probability that the first class must have for an answer. None means that there is always an
            answer. A bundle that was exported with `min_precision` has a threshold.
    """

    def __init__(
        self, predictions: Sequence[Prediction], pixels: np.ndarray | None = None, threshold: float | None = None
    ) -> None:
        """
        Args:
            pixels: the input of the network, uint8 (size, size, 3), for the picture in a notebook.
        """
        super().__init__(predictions)
        self.pixels = pixels
        self.threshold = threshold

    @property
    def answered(self) -> bool:
        """Whether the first class is an answer. If not, the answer is "not sure", and the first class is a guess."""
        return self.threshold is None or self[0].probability >= self.threshold

    @property
    def answer(self) -> str:
        """The label of the first class, or `not sure (best guess: LABEL)`."""
        label = self[0].label
        return label if self.answered else f"{NOT_SURE} (best guess: {label})"

    def __str__(self) -> str:
        return "\n".join(map(str, self) if self.answered else [NOT_SURE, *map(str, self)])

    def _repr_html_(self) -> str:
        names = [self.answer, *(each.label for each in self[1:])]
        rows = [(name, console.percent(each.probability)) for name, each in zip(names, self, strict=True)]
        picture = "" if self.pixels is None else _picture(self.pixels)
        return f"<div>{picture}{notebook.table(['class', 'probability'], rows)}</div>"


class Predictions(list[Ranking]):
    """Lists the rankings of several photographs, in the given order.

    Attributes:
        paths: the file of each ranking. The list is empty if the photographs were arrays or PIL images.
        failures: the reason for each file of a folder that could not be read.
    """

    def __init__(
        self, rankings: Sequence[Ranking], paths: Sequence[Path] = (), failures: dict[str, str] | None = None
    ) -> None:
        super().__init__(rankings)
        self.paths = list(paths)
        self.failures = failures or {}

    def __str__(self) -> str:
        names = self.paths or range(len(self))
        return "\n".join(
            f"{name}: {ranking.answer} {console.percent(ranking[0].probability)}"
            for name, ranking in zip(names, self, strict=True)
        )

    def _repr_html_(self) -> str:
        shown = "".join(
            f'<div style="display:inline-block;margin:4px">{ranking._repr_html_()}</div>' for ranking in self[:SHOWN]
        )
        more = f"<p>and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return shown + more


def rank(predictor: Predictor, pixels: np.ndarray, top: int) -> Ranking:
    """Classifies one prepared photograph, uint8 (size, size, 3), and returns its `top` likeliest classes."""
    (probabilities,) = predictor.predict(pixels[None])
    return ranking_of(predictor, probabilities, pixels, top)


def ranking_of(predictor: Predictor, probabilities: np.ndarray, pixels: np.ndarray, top: int) -> Ranking:
    """Returns the `top` likeliest classes of one photograph, from its probabilities (classes,)."""
    names, classes = predictor.labels, predictor.classes
    order = metrics.ranking(probabilities)[:top].tolist()
    found = [Prediction(names[i], float(probabilities[i]), i, classes[i]) for i in order]
    return Ranking(found, pixels, predictor.threshold)


def _picture(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=90)
    return notebook.picture(content.getvalue(), "image/jpeg")
