"""How much the answers suffer from an error in each layer: measured, once, before anything is rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqznet.core import console
from sqznet.network.quantization import calibration
from sqznet.network.sqz import convert

if TYPE_CHECKING:
    import keras

PHOTOGRAPHS = 64  # that divergences are taken on, of those for calibration
BATCH = 32
FIRST_STEP = 0.3  # of the deviation of a kernel's weights
TELLING = (0.004, 0.1)  # nats: less drowns in rounding, more is no longer in proportion to the squared error
WANTED = 0.02  # nats
TRIES = 4


@dataclass(frozen=True)
class Sensitivity:
    """`of_outputs`: nats of divergence for a squared error of 1 in a layer's outputs, all channels of a pixel together.

    `of_weights`: nats for a squared error of 1 in a weight, on average, where the others make up for it.
    """

    of_outputs: float
    of_weights: float


class Answers:
    """The logits of the uncompressed model, and how far those of others diverge from them."""

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        self.images = images
        self.real = log_softmax(logits(model, images))

    def divergence(self, model: keras.Model) -> float:
        """Mean Kullback-Leibler divergence of a model's answers from the real ones, in nats."""
        return divergence(self.real, log_softmax(logits(model, self.images)))


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """float64 (n, classes)."""
    parts = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts).astype(np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergence(real: np.ndarray, other: np.ndarray) -> float:
    """Of log-probabilities (n, classes), in nats."""
    return float((np.exp(real) * (real - other)).sum(axis=1).mean())


def measure(model: keras.Model, batches: calibration.Batches, answers: Answers) -> dict[str, Sensitivity]:
    """Of each convolution; `model` comes back as it was."""
    moments: dict[str, np.ndarray] = {}

    def look(layer, real, _changed, _outputs):
        moments[layer.name] = calibration.second_moments(calibration.windows(layer, real))

    calibration.walk(model.layers[:-1], batches, look, title="reading calibration photographs")
    random = np.random.default_rng(0)
    with console.progress("layers/s") as bar:
        layers = convert.convolutions(model)
        return {
            layer.name: _measure(model, layer, moments[layer.name], answers, random)
            for layer in bar.track(layers, description="measuring each layer's sensitivity")
        }


def _measure(
    model: keras.Model, layer: keras.layers.Conv2D, moments: np.ndarray, answers: Answers, random: np.random.Generator
) -> Sensitivity:
    kernel, bias = layer.get_weights()
    noise = random.uniform(-0.5, 0.5, kernel.shape).astype(np.float32)
    step = FIRST_STEP * float(kernel.std()) + 1e-12
    for _ in range(TRIES):
        layer.set_weights([kernel + step * noise, bias])
        diverges = max(answers.divergence(model), 1e-9)
        if TELLING[0] < diverges < TELLING[1]:
            break
        step *= float(np.clip((WANTED / diverges) ** 0.5, 0.05, 20))
    else:
        step /= float(np.clip((WANTED / diverges) ** 0.5, 0.05, 20))  # the one that was measured
    layer.set_weights([kernel, bias])
    error = step * noise.reshape(len(moments), -1).astype(np.float64)
    of_outputs = diverges / max(float(np.einsum("io,ij,jo->", error, moments, error, optimize=True)), 1e-30)
    left = 1 / np.diag(np.linalg.inv(calibration.damped(moments)))
    return Sensitivity(of_outputs, of_outputs * float(left.mean()))
