"""Measures how much an error in the weights of each layer changes the output of the network (divergence)."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from sqznet.core import console
from sqznet.network import model as models
from sqznet.network.quantization import calibration

PHOTOGRAPHS = 64  # of the calibration photographs, for measuring divergence
BATCH = 32
FIRST_STEP = 0.3  # amplitude of the noise, in standard deviations of a kernel's weights
USABLE = (
    0.004,
    0.1,
)  # nats: smaller values are lost in float32's rounding, larger ones are not proportional to the squared error
TARGET = 0.02  # nats
TRIES = 4


@dataclass(frozen=True)
class Sensitivity:
    per_output: float  # nats of divergence for a squared error of 1 in the outputs, summed over a pixel's channels
    per_weight: float  # nats for a squared error of 1 in a weight, on average, after compensation by other weights


class ReferenceLogits:
    """Contains the logits of the uncompressed model, the reference for divergences."""

    def __init__(self, model: keras.Model, images: np.ndarray) -> None:
        self.images = images
        self.log_probabilities = log_softmax(logits(model, images))

    def divergence(self, model: keras.Model) -> float:
        """Returns the mean Kullback-Leibler divergence of a model's probabilities from the reference, in nats."""
        other = log_softmax(logits(model, self.images))
        reference = self.log_probabilities
        return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


def logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Computes the logits, float64 (n, classes)."""
    parts = [model.predict_on_batch(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts).astype(np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def measure(model: keras.Model, batches: calibration.Batches, reference: ReferenceLogits) -> dict[str, Sensitivity]:
    """Measures the sensitivity of each convolution. The weights of `model` are restored afterwards."""
    moments: dict[str, np.ndarray] = {}

    def visit(layer, original, _quantized, _outputs):
        moments[layer.name] = calibration.second_moments(calibration.windows(layer, original))

    calibration.propagate(model.layers[:-1], batches, visit, title="reading calibration photographs")
    random = np.random.default_rng(0)
    with console.progress("layers/s") as bar:
        return {
            layer.name: _measure(model, layer, moments[layer.name], reference, random)
            for layer in bar.track(models.convolutions(model), description="measuring each layer's sensitivity")
        }


def _measure(
    model: keras.Model,
    layer: keras.layers.Conv2D,
    moments: np.ndarray,
    reference: ReferenceLogits,
    random: np.random.Generator,
) -> Sensitivity:
    kernel, bias = layer.get_weights()
    noise = random.uniform(-0.5, 0.5, kernel.shape).astype(np.float32)
    step = FIRST_STEP * float(kernel.std()) + 1e-12
    for _ in range(TRIES):
        layer.set_weights([kernel + step * noise, bias])
        diverges = max(reference.divergence(model), 1e-9)
        if USABLE[0] < diverges < USABLE[1]:
            break
        step *= float(np.clip((TARGET / diverges) ** 0.5, 0.05, 20))
    else:
        step /= float(np.clip((TARGET / diverges) ** 0.5, 0.05, 20))  # back to the step that was measured last
    layer.set_weights([kernel, bias])
    error = step * noise.reshape(len(moments), -1).astype(np.float64)
    per_output = diverges / max(float(np.einsum("io,ij,jo->", error, moments, error, optimize=True)), 1e-30)
    after_compensation = 1 / np.diag(np.linalg.inv(calibration.damped(moments)))
    return Sensitivity(per_output, per_output * float(after_compensation.mean()))
