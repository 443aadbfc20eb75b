"""Quantizes a network to int8. TFLite and ONNX get the same scales, ranges and zero points.

Weights are symmetric, with a scale for each output channel. Activations have one scale and zero point for each tensor.
Training photographs determine these. Both formats are written from the same `Quantized`, so they contain the same
integers.

A range from the minimum to the maximum would waste most steps on outliers and on the channels with the largest values.
This module uses three remedies. The first is cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721, section
4.1). The second is the range of each tensor with the least mean squared error. The third is GPTQ error compensation in
each kernel (Frantar et al. 2022, arXiv 2210.17323). Bias correction follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from sqznet.network.architecture import FIRES
from sqznet.network.quantization import bit_price, calibration, rounding, sensitivity

Range = tuple[float, float]  # the real values of the lowest and the highest step; it contains 0

PIXELS: Range = (0.0, 255.0)  # one step a pixel value
PROBABILITIES: Range = (0.0, 255 / 256)  # the range of every runtime's int8 softmax
STEPS = 255
SAMPLES = 500_000  # values by which a range is chosen
CLIP_RATIOS = np.linspace(0.3, 1.0, 29)  # fractions of the whole range that are tried
# Exponents of the activations' and of the weights' maxima in cross-layer equalization: 0 does nothing, 1 gives all
# channels the same maximum, but moves the differences into the weights of the next convolution.
EQUALIZATION = {"squeeze": (0.7, 0.3), "expand": (0.5, 0.0)}
SPARSE_BITS = 2.4  # bits of a weight, estimated for rounding to nearest: the packed file needs less
FLOOR = 1e-3  # share of the largest channel maximum: smaller maxima are raised to it
ELU_FLOOR = -6.0  # below it ELU is within 0.0025 of -1
ELU_MAX_STEP = 2.0  # with a larger step all values of ELU below zero are less than half a step


@dataclass(frozen=True)
class Quantized:
    """Contains a network with all data that a writer of int8 files needs.

    `model` contains the rounded weights. `ranges` contains the range of each layer's output, by the name of the layer.
    Pools and paddings have no range, because they keep the steps of their input.
    """

    model: keras.Model
    ranges: dict[str, Range]
    kernel_scales: dict[str, np.ndarray]  # float32 (out,) by layer
    records: int  # calibration photographs


def quantize(model: keras.Model, batches: calibration.Batches, *, sparse: bool = False) -> Quantized:
    """Quantizes an inference model (`fold.inference_model`).

    Args:
        batches: training photographs, uint8 (n, size, size, 3) each.
        sparse: whether kernels are rounded to few coarse steps, as for a `.sqz` file. Such a file compresses well.
    """
    # With one step for a whole kernel, equalization would only increase the range of its weights.
    quantizer = _Quantizer(_copy(model) if sparse else _equalized(model, batches), batches, sparse)
    quantizer.run()
    return Quantized(quantizer.model, quantizer.ranges, quantizer.scales, sum(map(len, batches)))


def scale_and_zero(limits: Range) -> tuple[np.float32, int]:
    """Returns the scale and the zero point of uint8 steps: real = scale * (step - zero)."""
    low, high = limits
    scale = np.float32((high - low) / STEPS)
    return scale, int(np.clip(round(-low / float(scale)), 0, STEPS))


def kernel_scales(kernel: np.ndarray) -> np.ndarray:
    """Returns the scales of a kernel (h, w, in, out), float32 (out,): weight = scale * step, with steps -127 to 127."""
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    return (np.maximum(largest, 1e-6) / 127).astype(np.float32)


def _copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _channel_maxima(model: keras.Model, batches: calibration.Batches) -> dict[str, np.ndarray]:
    """Returns the largest magnitude of each channel of every layer's output, by layer."""
    layers = model.layers[1:]
    whole = keras.Model(model.input, [layer.output for layer in layers])

    @tf.function(autograph=False)
    def maxima(images):
        return [tf.reduce_max(abs(output), range(len(output.shape) - 1)) for output in whole(images)]

    found = [maxima(tf.constant(images, tf.float32)) for images in batches]
    return {layer.name: np.max(each, axis=0) for layer, each in zip(layers, zip(*found, strict=True), strict=True)}


def _equalized(model: keras.Model, batches: calibration.Batches) -> keras.Model:
    """Applies cross-layer equalization: the function stays the same, and channel maxima become more equal.

    Needs ReLU.
    """
    copy = _copy(model)
    layers = {layer.name: layer for layer in copy.layers}
    if "conv1_relu" not in layers:
        return copy
    maxima = _channel_maxima(model, batches)

    def equalize(kind: str, producers: list[str], consumers: list[str], activations: np.ndarray) -> None:
        weights = np.max([np.abs(layers[name].get_weights()[0]).max(axis=(0, 1, 3)) for name in consumers], axis=0)
        activations, weights = (np.maximum(each, FLOOR * each.max() + 1e-12) for each in (activations, weights))
        of_activations, of_weights = EQUALIZATION[kind]
        factors = activations**of_activations / weights**of_weights
        factors = np.maximum(factors / factors.max(), FLOOR)
        start = 0
        for name in producers:
            kernel, bias = layers[name].get_weights()
            own = factors[start : start + len(bias)]
            layers[name].set_weights([kernel / own, bias / own])
            start += len(bias)
        for name in consumers:
            kernel, bias = layers[name].get_weights()
            layers[name].set_weights([kernel * factors[:, None], bias])

    # A bypass adds the outputs of two fire modules, which would need the same factors: these are not equalized.
    has_bypass = any(name.endswith("_bypass") for name in layers)
    following = [f"{name}_squeeze1x1" for name in FIRES] + ["conv10"]
    if not has_bypass:
        equalize("expand", ["conv1"], following[:1], maxima["conv1_relu"])
    for name, after in zip(FIRES, following[1:], strict=True):
        expands = [f"{name}_expand1x1", f"{name}_expand3x3"]
        equalize("squeeze", [f"{name}_squeeze1x1"], expands, maxima[f"{name}_squeeze1x1_relu"])
        if not has_bypass:
            equalize("expand", expands, [after], maxima[name])
    return copy


class _Quantizer:
    """Propagates the photographs through the network once, side by side in float and in int8.

    Each convolution is rounded for its int8 inputs. Therefore it compensates for the errors of the layers before.
    """

    def __init__(self, model: keras.Model, batches: calibration.Batches, sparse: bool) -> None:
        self.model = model
        self.coarse = _CoarseRounder(model, batches) if sparse else None
        self.names = {layer.name for layer in model.layers}
        self.consumers = {name: layer for layer in model.layers[1:] for name in calibration.inputs_of(layer)}
        self.batches = batches
        self.ranges: dict[str, Range] = {"image": PIXELS, "probabilities": PROBABILITIES}
        self.scales: dict[str, np.ndarray] = {}

    def run(self) -> None:
        batches = [images.astype(np.float32) for images in self.batches]
        calibration.propagate(self.model.layers, batches, self._round, self._quantize, title="calibrating int8")

    def _quantize(self, layer: keras.Layer, values: calibration.Batches) -> calibration.Batches:
        """Chooses the range of a layer's output if the layer has its own range.

        Rounds the values to the steps of the range.
        """
        if not _has_own_range(layer, self.consumers.get(layer.name)):
            return values
        clipped = values
        if f"{layer.name}_elu" in self.names:
            clipped = [np.maximum(each, ELU_FLOOR) for each in clipped]
            if max(each.max() for each in clipped) / STEPS > ELU_MAX_STEP:
                clipped = [np.maximum(each, -1.0) for each in clipped]  # the range of ELU's output, to round once
        limits = self.ranges[layer.name] = _least_squares_range(clipped)
        if isinstance(layer, keras.layers.Concatenate):  # its inputs have the same steps
            self.ranges.update(dict.fromkeys(calibration.inputs_of(layer), limits))
        scale, zero = scale_and_zero(limits)
        return [(np.clip(np.round(each / scale) + zero, 0, STEPS) - zero) * scale for each in values]

    def _round(
        self,
        layer: keras.layers.Conv2D,
        _original: calibration.Batches,
        inputs: calibration.Batches,
        wanted: calibration.Batches,
    ) -> None:
        """Rounds kernel and bias of a convolution for its int8 inputs, to approximate its original outputs."""
        kernel, bias = layer.get_weights()
        # The step of a bias is the step of the input times that of the kernel. With a kernel near zero it would be so
        # fine that the bias does not fit 32 bits.
        largest = max(1e-6, *(float(np.abs(each).max()) for each in inputs))
        scales = np.maximum(kernel_scales(kernel), np.abs(bias) * STEPS / largest / 2**30).astype(np.float32)
        if self.coarse is not None:
            scales, rounded = self.coarse.round(layer, inputs, wanted, least=scales)
        else:
            rounded = _round_kernel(kernel, scales, calibration.windows(layer, inputs))
        layer.set_weights([rounded, bias])
        correction = calibration.bias_correction(layer, inputs, wanted)
        layer.set_weights([rounded, (bias + correction).astype(np.float32)])
        self.scales[layer.name] = scales


class _CoarseRounder:
    """Rounds kernels as for `.sqz` files. A packed file then has SPARSE_BITS for each weight."""

    def __init__(self, model: keras.Model, batches: calibration.Batches) -> None:
        without_softmax = keras.Model(model.input, model.get_layer("logits").output)
        photographs = [images.astype(np.float32) for images in batches]
        some = np.concatenate(photographs)[: sensitivity.PHOTOGRAPHS]
        reference = sensitivity.ReferenceLogits(without_softmax, some)
        self.sensitivities = sensitivity.measure(without_softmax, photographs, reference)
        kernels = {layer.name: layer.get_weights()[0] for layer in model.layers if layer.name in self.sensitivities}
        estimate = bit_price.estimator(kernels, self.sensitivities)
        self.price = bit_price.at_size(estimate, SPARSE_BITS / 8 * sum(kernel.size for kernel in kernels.values()))

    def round(
        self, layer: keras.layers.Conv2D, inputs: calibration.Batches, wanted: calibration.Batches, least: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scales (out,), all equal and none below `least`, and the kernel rounded to multiples of them."""
        found = self.sensitivities[layer.name]
        step = max(rounding.step_of(found, layer.get_weights()[0], self.price), float(least.max()))
        bits_per_error = found.per_output * step**2 / self.price
        integers = rounding.round_kernel(layer, inputs, wanted, step, bits_per_error, limit=127)
        scales = np.full(integers.shape[-1], step, np.float32)
        return scales, (integers * scales).astype(np.float32)


def _has_own_range(layer: keras.Layer, consumer: keras.Layer | None) -> bool:
    """Returns whether a layer's output has a range that is chosen here."""
    if isinstance(layer, keras.layers.MaxPooling2D | keras.layers.ZeroPadding2D | keras.layers.Softmax):
        return False  # the output has the range of the input, or a known range
    if isinstance(consumer, keras.layers.Concatenate):
        return False  # it has the range of the concatenation
    # Runtimes fuse a ReLU with its convolution, so the convolution's own output is never stored.
    return not (isinstance(consumer, keras.layers.Activation) and consumer.name.endswith("_relu"))


def _round_kernel(kernel: np.ndarray, scales: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Rounds a kernel to multiples of the scales, with GPTQ error compensation for these windows."""
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)  # (inputs, out)
    rounded = calibration.round_with_compensation(
        weights,
        calibration.damped(calibration.second_moments(windows.astype(np.float64))),
        lambda values, *_: np.clip(np.round(values / scales), -127, 127) * scales,
    )
    return rounded.reshape(kernel.shape).astype(np.float32)


def _least_squares_range(values: calibration.Batches) -> Range:
    """Returns the range with the least squared error. Both ends are clipped by the same ratio."""
    low = min(0.0, *(float(each.min()) for each in values))
    high = max(low + 1e-6, *(float(each.max()) for each in values))
    some = np.concatenate([each.ravel()[:: max(1, each.size * len(values) // SAMPLES)] for each in values])

    def loss(ratio: float) -> float:
        scale, zero = scale_and_zero((low * ratio, high * ratio))
        steps = np.clip(np.round(some / scale) + zero, 0, STEPS)
        return float((((steps - zero) * scale - some) ** 2).sum(dtype=np.float64))

    ratio = float(min(CLIP_RATIOS, key=loss))
    return low * ratio, high * ratio
