"""Kernels to whole steps, by one exchange rate between bits and divergence for the whole network.

`price` is what a bit may cost: nats of divergence from the uncompressed model's answers, by which each layer's step and
each weight's integer are chosen. Steps follow from it in closed form. A uniform quantizer of step s has a squared error
of s^2 / 12, which one bit more divides by 4: at the rate where a bit saves what it costs,
price = 2 ln 2 * sensitivity * s^2 / 12 (high-rate theory: Gish and Pierce 1968, IEEE Trans. Inf. Theory 14).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from sqznet.network.quantization import calibration
from sqznet.network.quantization.sensitivity import Sensitivity
from sqznet.network.sqz import convert
from sqznet.network.sqz.encoder import Integers

if TYPE_CHECKING:
    import keras

SAVED_BY_A_BIT = 2 * math.log(2) / 12  # of sensitivity * step ** 2
COARSER = 1.25  # than the theory, which holds for fine steps: found best at two to three bits a weight (BUILD_NOTES)
REFIT = 0.03  # damping of the refit to rounded inputs, of the mean diagonal
PASSES = 2  # the first finds how frequent each integer is, the second knows it
UNSEEN = 0.05  # what an integer that does not occur is counted as
MARGIN = 2  # integers beyond the largest of plain rounding that error compensation may use
BIAS_LIMIT = 65_504.0  # float16's largest


class Rounder:
    """Rounds a model layer by layer, each for the inputs that the rounded layers before give it.

    Args:
        model: of `network.without_batch_norm`; its weights are replaced by `round`.
        batches: calibration photographs, uint8 (n, size, size, 3) each.
        kept: for each convolution, where its weights may be other than zero (`pruning`); empty: everywhere.
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
        self.weights = {layer.name: layer.get_weights() for layer in convert.convolutions(model)}
        self.batches = batches
        self.sensitivities = sensitivities
        self.compensate = compensate
        self.count_bits = count_bits
        self.kept = kept or {}

    def round(self, price: float) -> dict[str, Integers]:
        """The integers of each kernel at that price of a bit; the model has their values, and corrected biases."""
        found: dict[str, Integers] = {}
        for layer in convert.convolutions(self.model):
            layer.set_weights(self.weights[layer.name])

        def change(layer, _real, inputs, wanted):
            found[layer.name] = self._round(layer, inputs, wanted, price)

        calibration.walk(self.model.layers[:-1], self.batches, change, title=f"rounding at {price:.2g} nats a bit")
        return found

    def _round(
        self, layer: keras.layers.Conv2D, inputs: calibration.Batches, wanted: calibration.Batches, price: float
    ) -> Integers:
        kernel, bias = layer.get_weights()
        step = step_of(self.sensitivities[layer.name], kernel, price)
        kept = self.kept.get(layer.name)
        if self.compensate:
            integers = compensated(
                layer,
                inputs,
                wanted,
                step=step,
                price=price,
                of_outputs=self.sensitivities[layer.name].of_outputs,
                count_bits=self.count_bits,
                kept=kept,
            )
        else:
            integers = np.round(kernel.astype(np.float64) * (1 if kept is None else kept) / step)
        found = Integers(integers.astype(np.int64), np.float32(step))
        layer.set_weights([found.kernel, bias])
        if self.compensate:
            bias = bias + calibration.missing_mean(layer, inputs, wanted)
        bias = np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.float16).astype(np.float32)
        layer.set_weights([found.kernel, bias])
        return found


def compensated(
    layer: keras.layers.Conv2D,
    inputs: calibration.Batches,
    wanted: calibration.Batches,
    *,
    step: float,
    price: float,
    of_outputs: float,
    most: int = 1 << 15,
    count_bits: bool = True,
    kept: np.ndarray | None = None,
) -> np.ndarray:
    """A layer's kernel in whole steps: each chosen for its error and its bits, with the rest moved to make up for it.

    Args:
        inputs: that the layer will get.
        wanted: its real outputs.
        of_outputs: the layer's sensitivity.
        most: largest integer.
        kept: where a weight may be other than zero; None: everywhere.

    Returns:
        Integers, float64, in the kernel's shape.
    """
    kernel, bias = layer.get_weights()
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)  # (inputs, out)
    free = np.ones(weights.shape, bool) if kept is None else kept.reshape(weights.shape)
    windows = calibration.windows(layer, inputs)
    moments = calibration.second_moments(windows)
    # First what the layers before have lost, as far as other weights can make up for it.
    outputs = np.concatenate([calibration.some_rows(each, len(wanted)) for each in wanted]) - bias
    lost = outputs - windows @ weights.astype(np.float32)
    weights = weights + np.linalg.solve(calibration.damped(moments, REFIT), windows.T @ lost / len(windows))
    moments = calibration.damped(moments)
    in_bits = of_outputs * step**2 / price  # what an error of a step in an output is worth
    integers = np.clip(np.round(weights * free / step), -most, most)
    for _ in range(PASSES):
        limit = min(most, int(np.abs(integers).max()) + MARGIN)
        counts = np.bincount((integers.astype(np.int64) + limit).ravel(), minlength=2 * limit + 1) + UNSEEN
        bits = -np.log2(counts / counts.sum()) * count_bits
        choose = functools.partial(_cheapest, step=step, in_bits=in_bits, bits=bits, free=free)
        integers = np.round(calibration.round_in_turn(weights, moments, choose) / step)
    return integers.reshape(kernel.shape)


def step_of(sensitivity: Sensitivity, kernel: np.ndarray, price: float) -> float:
    """The step of a kernel at a price, a float32; no longer than its largest weight."""
    step = COARSER * math.sqrt(price / (SAVED_BY_A_BIT * sensitivity.of_weights))
    return float(np.float32(min(step, max(float(np.abs(kernel).max()), 1e-6))))


def _cheapest(
    values: np.ndarray,
    error_of_a_step: float,
    index: int,
    *,
    step: float,
    in_bits: float,
    bits: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Of the nearest step, the next one to zero, and zero, the one of least error and bits together; (out,)."""
    limit = len(bits) // 2
    nearest = np.clip(np.round(values / step), -limit, limit)
    choices = np.stack([nearest, nearest - np.sign(nearest), np.zeros_like(nearest)])
    costs = in_bits * error_of_a_step * (values / step - choices) ** 2 + bits[choices.astype(np.int64) + limit]
    best = np.take_along_axis(choices, costs.argmin(axis=0)[None], axis=0)[0]
    return step * np.where(free[index], best, 0)
