"""Rounds kernels to integers by rate-distortion optimisation, with one price of a bit for the whole network.

`price` is the Lagrange multiplier between bits and distortion. One saved bit may cost this much divergence from the
uncompressed model, in nats. The price determines each layer's step and each weight's integer. The step has a closed
form. A uniform quantizer of step s has a squared error of s^2 / 12, and one more bit divides this error by 4. At the
optimum, a bit reduces the distortion by its price: price = 2 ln 2 * sensitivity * s^2 / 12 (high-rate theory: Gish and
Pierce 1968, IEEE Trans. Inf. Theory 14).
"""

from __future__ import annotations

import functools
import math

import keras
import numpy as np

from sqznet.network import model as models
from sqznet.network.quantization import calibration
from sqznet.network.quantization.sensitivity import Sensitivity
from sqznet.network.sqz.encoder import Integers

SAVED_BY_A_BIT = 2 * math.log(2) / 12  # of sensitivity * step ** 2
COARSER = 1.25  # times the step of high-rate theory, which holds for fine steps only (docs/design/18-sqz.md)
REFIT_DAMPING = 0.03  # of the mean diagonal, for the refit to quantized inputs
PASSES = 2  # the first finds the frequencies of the integers, the second uses them
UNSEEN = 0.05  # count of an integer that does not occur
MARGIN = 2  # how far error compensation may exceed the largest integer of rounding to nearest
BIAS_LIMIT = 65_504.0  # float16's largest


class Rounder:
    """Rounds a model layer by layer. Each layer is rounded for the outputs of the rounded layers before.

    Args:
        model: a model from `fold.without_batch_norm`. `round` replaces its weights.
        batches: calibration photographs, uint8 (n, size, size, 3) each.
        kept: for each convolution, true where a weight may differ from zero (`pruning.masks`). None means everywhere.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: calibration.Batches,
        sensitivities: dict[str, Sensitivity],
        *,
        compensate: bool = True,
        count_bits: bool = True,
        kept: dict[str, np.ndarray] | None = None,
    ) -> None:
        self.model = model
        self.weights = {layer.name: layer.get_weights() for layer in models.convolutions(model)}
        self.batches = batches
        self.sensitivities = sensitivities
        self.compensate = compensate
        self.count_bits = count_bits
        self.kept = kept or {}

    def round(self, price: float) -> dict[str, Integers]:
        """Returns the integers of each kernel at a price. Sets the model to their values and to corrected biases."""
        found: dict[str, Integers] = {}
        for layer in models.convolutions(self.model):
            layer.set_weights(self.weights[layer.name])

        def visit(layer, _original, inputs, wanted):
            found[layer.name] = self._round(layer, inputs, wanted, price)

        title = f"rounding at {price:.2g} nats a bit"
        calibration.propagate(self.model.layers[:-1], self.batches, visit, title=title)
        return found

    def _round(
        self, layer: keras.layers.Conv2D, inputs: calibration.Batches, wanted: calibration.Batches, price: float
    ) -> Integers:
        kernel, bias = layer.get_weights()
        sensitivity, kept = self.sensitivities[layer.name], self.kept.get(layer.name)
        step = step_of(sensitivity, kernel, price)
        if self.compensate:
            bits_per_error = sensitivity.per_output * step**2 / price
            integers = round_kernel(layer, inputs, wanted, step, bits_per_error, count_bits=self.count_bits, kept=kept)
        else:
            integers = np.round(kernel.astype(np.float64) * (1 if kept is None else kept) / step)
        found = Integers(integers.astype(np.int64), np.float32(step))
        layer.set_weights([found.kernel, bias])
        if self.compensate:
            bias = bias + calibration.bias_correction(layer, inputs, wanted)
        bias = np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.float16).astype(np.float32)
        layer.set_weights([found.kernel, bias])
        return found


def round_kernel(
    layer: keras.layers.Conv2D,
    inputs: calibration.Batches,
    wanted: calibration.Batches,
    step: float,
    bits_per_error: float,
    *,
    limit: int = 1 << 15,
    count_bits: bool = True,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """Rounds a layer's kernel to units of `step`, by rate-distortion optimisation with GPTQ error compensation.

    Args:
        inputs: the layer's inputs from the rounded layers before.
        wanted: the layer's original outputs.
        bits_per_error: number of bits that are as bad as a squared error of one step in an output.
        limit: largest magnitude of an integer.
        kept: true where a weight may differ from zero. None means everywhere.

    Returns:
        Integers, float64, in the kernel's shape.
    """
    kernel, bias = layer.get_weights()
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)  # (inputs, out)
    free = np.ones(weights.shape, bool) if kept is None else kept.reshape(weights.shape)
    windows = calibration.windows(layer, inputs)
    moments = calibration.second_moments(windows)
    # First a least-squares fit to the original outputs, which compensates for the errors of the layers before.
    outputs = np.concatenate([calibration.sample_rows(each, len(wanted)) for each in wanted]) - bias
    lost = outputs - windows @ weights.astype(np.float32)
    weights = weights + np.linalg.solve(calibration.damped(moments, REFIT_DAMPING), windows.T @ lost / len(windows))
    moments = calibration.damped(moments)
    integers = np.clip(np.round(weights * free / step), -limit, limit)
    for _ in range(PASSES):
        largest = min(limit, int(np.abs(integers).max()) + MARGIN)
        counts = np.bincount((integers.astype(np.int64) + largest).ravel(), minlength=2 * largest + 1) + UNSEEN
        bits = -np.log2(counts / counts.sum()) * count_bits
        choose = functools.partial(_cheapest, step=step, bits_per_error=bits_per_error, bits=bits, free=free)
        integers = np.round(calibration.round_with_compensation(weights, moments, choose) / step)
    return integers.reshape(kernel.shape)


def step_of(sensitivity: Sensitivity, kernel: np.ndarray, price: float) -> float:
    """Returns the step of a kernel at a price: a float32, at most the kernel's largest weight."""
    step = COARSER * math.sqrt(price / (SAVED_BY_A_BIT * sensitivity.per_weight))
    return float(np.float32(min(step, max(float(np.abs(kernel).max()), 1e-6))))


def _cheapest(
    values: np.ndarray,
    error_of_a_step: float,
    index: int,
    *,
    step: float,
    bits_per_error: float,
    bits: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Chooses the candidates with the least sum of distortion and bits, (out,)."""
    limit = len(bits) // 2
    nearest = np.clip(np.round(values / step), -limit, limit)
    choices = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
    costs = bits_per_error * error_of_a_step * (values / step - choices) ** 2 + bits[choices.astype(np.int64) + limit]
    best = np.take_along_axis(choices, costs.argmin(axis=0)[None], axis=0)[0]
    return step * np.where(free[index], best, 0)
