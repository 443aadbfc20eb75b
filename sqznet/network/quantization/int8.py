"""Full int8: which value each of the 256 steps stands for, found once for TFLite and ONNX alike.

Weights are symmetric, with a scale for each output channel; activations have one scale and zero point for each tensor,
found on training photographs. Both formats are written from the same `Quantized`, so both hold the same integers.

Plain minima and maxima waste most steps on a few outliers and on the loudest channels of each map. Three remedies:
channels are brought nearer to each other where the next convolution can take the factor back (Nagel et al. 2019,
arXiv 1906.04721, section 4.1), the range of each tensor is cut where the squared error is least, and each kernel is
rounded for the inputs that it will get (Frantar et al. 2022, arXiv 2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sqznet.network.architecture import FIRES
from sqznet.network.quantization import bit_price, rounding, sensitivity
from sqznet.network.quantization.calibration import (
    damped,
    inputs_of,
    missing_mean,
    round_in_turn,
    second_moments,
    walk,
    windows,
)

if TYPE_CHECKING:
    import keras

Range = tuple[float, float]  # the real values of the lowest and the highest step; 0 is among them

PIXELS: Range = (0.0, 255.0)  # one step a pixel value
PROBABILITIES: Range = (0.0, 255 / 256)  # what every runtime's int8 softmax puts out
STEPS = 255
SAMPLES = 500_000  # values that a range is chosen by
CUTS = np.linspace(0.3, 1.0, 29)  # shares of the whole range that are tried
# How far channels are brought together: 0 leaves them alone, 1 makes all equally loud. All the way would move the
# spread into the weights of the next convolution.
LOUDNESS = {"squeeze": (0.7, 0.3), "expand": (0.5, 0.0)}  # exponents of the activations' and of the weights' maxima
SPARSE_BITS = 2.4  # a weight, as plain rounding would have it; what is packed in the end takes less
FLOOR = 1e-3  # of the loudest channel: silent ones have nothing to be scaled by
ELU_FLOOR = -6.0  # ELU is within 0.0025 of -1 below it
ELU_LOST = 2.0  # from this step on, all that ELU does below zero is less than half a step


@dataclass(frozen=True)
class Quantized:
    """A network that is ready to be written in int8.

    `model` computes what the inference model does; `ranges` has the range of each layer's output, by the name of the
    layer. Pools and paddings have none of their own: they pass on their input's steps.
    """

    model: keras.Model
    ranges: dict[str, Range]
    kernel_scales: dict[str, np.ndarray]  # float32 (out,) by layer
    records: int  # photographs that the ranges were found on


def quantize(model: keras.Model, batches: list[np.ndarray], *, sparse: bool = False) -> Quantized:
    """Finds scales for an inference model (`fold.inference_model`).

    Args:
        batches: training photographs, uint8 (n, size, size, 3) each.
        sparse: whether kernels are in a few coarse steps, chosen as for a `.sqz` file, so that the file packs well.
    """
    # With one step for a whole kernel, channels brought together would only spread its weights.
    fit = _Fit(_copy(model) if sparse else _equalised(model, _loudest(model, batches)), batches, sparse)
    fit.run()
    return Quantized(fit.model, fit.ranges, fit.scales, sum(map(len, batches)))


def scale_and_zero(limits: Range) -> tuple[np.float32, int]:
    """Scale and zero point of uint8 steps: real = scale * (step - zero)."""
    low, high = limits
    scale = np.float32((high - low) / STEPS)
    return scale, int(np.clip(round(-low / float(scale)), 0, STEPS))


def kernel_scales(kernel: np.ndarray) -> np.ndarray:
    """Scale of each output channel of a kernel (h, w, in, out), float32 (out,): real = scale * step, -127 to 127."""
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    return (np.maximum(largest, 1e-6) / 127).astype(np.float32)


def _copy(model: keras.Model) -> keras.Model:
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _loudest(model: keras.Model, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The largest magnitude of each channel of every layer's output, by layer."""
    import keras
    import tensorflow as tf

    layers = model.layers[1:]
    whole = keras.Model(model.input, [layer.output for layer in layers])

    @tf.function(autograph=False)
    def peaks(images):
        return [tf.reduce_max(abs(output), range(len(output.shape) - 1)) for output in whole(images)]

    found = [peaks(tf.constant(images, tf.float32)) for images in batches]
    return {layer.name: np.max(each, axis=0) for layer, each in zip(layers, zip(*found, strict=True), strict=True)}


def _equalised(model: keras.Model, loudest: dict[str, np.ndarray]) -> keras.Model:
    """The same function with channels of more equal loudness; ReLU passes a factor on, ELU does not."""
    copy = _copy(model)
    layers = {layer.name: layer for layer in copy.layers}
    if "conv1_relu" not in layers:
        return copy

    def bring_together(kind: str, made_by: list[str], taken_by: list[str], peaks: np.ndarray) -> None:
        taken = [np.abs(layers[name].get_weights()[0]).max(axis=(0, 1, 3)) for name in taken_by]
        of_activations, of_weights = LOUDNESS[kind]
        peaks, weights = (np.maximum(each, FLOOR * each.max() + 1e-12) for each in (peaks, np.max(taken, axis=0)))
        factors = peaks**of_activations / weights**of_weights
        factors = np.maximum(factors / factors.max(), FLOOR)
        start = 0
        for name in made_by:
            kernel, bias = layers[name].get_weights()
            mine = factors[start : start + len(bias)]
            layers[name].set_weights([kernel / mine, bias / mine])
            start += len(bias)
        for name in taken_by:
            kernel, bias = layers[name].get_weights()
            layers[name].set_weights([kernel * factors[:, None], bias])

    # A shortcut adds maps of two fire modules, which would have to share their factors: those are left alone.
    straight = not any(name.endswith("_bypass") for name in layers)
    following = [f"{name}_squeeze1x1" for name in FIRES] + ["conv10"]
    if straight:
        bring_together("expand", ["conv1"], following[:1], loudest["conv1_relu"])
    for name, after in zip(FIRES, following[1:], strict=True):
        expands = [f"{name}_expand1x1", f"{name}_expand3x3"]
        bring_together("squeeze", [f"{name}_squeeze1x1"], expands, loudest[f"{name}_squeeze1x1_relu"])
        if straight:
            bring_together("expand", expands, [after], loudest[name])
    return copy


class _Fit:
    """Walks through the network once, with the values of float and of int8 side by side.

    Each convolution is rounded for the inputs that int8 gives it, so that it makes up for what was lost before it.
    """

    def __init__(self, model: keras.Model, batches: list[np.ndarray], sparse: bool = False) -> None:
        self.model = model
        self.coarse = _Coarse(model, batches) if sparse else None
        self.names = {layer.name for layer in model.layers}
        self.batches = batches
        self.ranges: dict[str, Range] = {"image": PIXELS, "probabilities": PROBABILITIES}
        self.scales: dict[str, np.ndarray] = {}
        self.takers: dict[str, keras.Layer] = {}

    def run(self) -> None:
        self.takers = {name: layer for layer in self.model.layers[1:] for name in inputs_of(layer)}
        batches = [images.astype(np.float32) for images in self.batches]
        walk(self.model.layers, batches, self._round, self._stepped, title="calibrating int8")

    def _stepped(self, layer: keras.Layer, values: list[np.ndarray]) -> list[np.ndarray]:
        """The output of a layer in the steps that int8 has for it, where it has some of its own."""
        import keras

        if not _makes_values(layer, self.takers.get(layer.name)):
            return values
        limits, values = self._steps_of(layer, values)
        self.ranges[layer.name] = limits
        if isinstance(layer, keras.layers.Concatenate):  # puts its inputs side by side, in its own steps
            self.ranges.update(dict.fromkeys(inputs_of(layer), limits))
        return values

    def _steps_of(self, layer: keras.Layer, outputs: list[np.ndarray]) -> tuple[Range, list[np.ndarray]]:
        """Chooses the range of a layer's output and rounds the values to its steps."""
        values = outputs
        if f"{layer.name}_elu" in self.names:
            values = [np.maximum(each, ELU_FLOOR) for each in values]
            if max(each.max() for each in values) / STEPS > ELU_LOST:
                values = [np.maximum(each, -1.0) for each in values]  # the steps of ELU's output, to round once
        limits = _least_loss(values)
        scale, zero = scale_and_zero(limits)
        return limits, [(np.clip(np.round(each / scale) + zero, 0, STEPS) - zero) * scale for each in outputs]

    def _round(
        self, layer: keras.layers.Conv2D, _real: list[np.ndarray], inputs: list[np.ndarray], wanted: list[np.ndarray]
    ) -> None:
        """Rounds kernel and bias of a convolution for the inputs it will get, to come near its real outputs."""
        kernel, bias = layer.get_weights()
        # Steps of a bias are those of the input times those of the kernel: a kernel of almost nothing must not make
        # them so fine that the bias does not fit 32 bits.
        loudest = max(1e-6, *(float(np.abs(each).max()) for each in inputs))
        scales = np.maximum(kernel_scales(kernel), np.abs(bias) * STEPS / loudest / 2**30).astype(np.float32)
        if self.coarse is not None:
            scales, rounded = self.coarse.round(layer, inputs, wanted, least=scales)
        else:
            rounded = _round_kernel(kernel, scales, windows(layer, inputs))
        layer.set_weights([rounded, bias])
        layer.set_weights([rounded, (bias + missing_mean(layer, inputs, wanted)).astype(np.float32)])
        self.scales[layer.name] = scales


class _Coarse:
    """Rounds kernels as `compression` does, to so few integers that a file of them packs to SPARSE_BITS a weight."""

    def __init__(self, model: keras.Model, batches: list[np.ndarray]) -> None:
        import keras

        answering = keras.Model(model.input, model.get_layer("logits").output)
        photographs = [images.astype(np.float32) for images in batches]
        some = np.concatenate(photographs)[: sensitivity.PHOTOGRAPHS]
        self.sensitivities = sensitivity.measure(answering, photographs, sensitivity.Answers(answering, some))
        kernels = {layer.name: layer.get_weights()[0] for layer in model.layers if layer.name in self.sensitivities}
        estimate = bit_price.estimator(kernels, self.sensitivities)
        self.price = bit_price.at_size(estimate, SPARSE_BITS / 8 * sum(kernel.size for kernel in kernels.values()))

    def round(
        self, layer: keras.layers.Conv2D, inputs: list[np.ndarray], wanted: list[np.ndarray], least: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scales (out,), all equal and none below `least`, and the kernel in whole steps of them."""
        found = self.sensitivities[layer.name]
        step = max(rounding.step_of(found, layer.get_weights()[0], self.price), float(least.max()))
        integers = rounding.compensated(
            layer, inputs, wanted, step=step, price=self.price, of_outputs=found.of_outputs, most=127
        )
        scales = np.full(integers.shape[-1], step, np.float32)
        return scales, (integers * scales).astype(np.float32)


def _makes_values(layer: keras.Layer, taker: keras.Layer | None) -> bool:
    """Whether a layer's output has steps of its own, found here."""
    import keras

    if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.ZeroPadding2D | keras.layers.Softmax):
        return False  # moves values about, or has known ones
    if isinstance(taker, keras.layers.Concatenate):
        return False  # has those of the concatenation
    melts = isinstance(taker, keras.layers.Activation) and taker.name.endswith("_relu")
    return not melts  # a ReLU belongs to its convolution, whose own output no runtime ever sees


def _round_kernel(kernel: np.ndarray, scales: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """To whole steps, so that the outputs for these windows change least."""
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)  # (inputs, out)
    rounded = round_in_turn(
        weights,
        damped(second_moments(windows.astype(np.float64))),
        lambda values, *_: np.clip(np.round(values / scales), -127, 127) * scales,
    )
    return rounded.reshape(kernel.shape).astype(np.float32)


def _least_loss(values: list[np.ndarray]) -> Range:
    """The range that loses least in squares: both ends drawn in by the same share."""
    low = min(0.0, *(float(each.min()) for each in values))
    high = max(low + 1e-6, *(float(each.max()) for each in values))
    some = np.concatenate([each.ravel()[:: max(1, each.size * len(values) // SAMPLES)] for each in values])

    def loss(share: float) -> float:
        scale, zero = scale_and_zero((low * share, high * share))
        steps = np.clip(np.round(some / scale) + zero, 0, STEPS)
        return float((((steps - zero) * scale - some) ** 2).sum(dtype=np.float64))

    share = float(min(CUTS, key=loss))
    return low * share, high * share
