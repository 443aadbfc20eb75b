"""Int8 quantization: equal files in all formats, close to the float network."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from sqznet.core import processor
from sqznet.core.errors import InputError
from sqznet.export import audit, onnx_int8, tflite
from sqznet.network import architecture, fold, model
from sqznet.network.quantization import int8
from tests import ci
from tests.conftest import run_file
from tests.export import processors

SIZE = 64
RNG = np.random.default_rng(0)
FEATURES = processor.features()


def network(activation: str, bypass: str = "none", conv10_padding: int = 0):
    """An inference model with weights of a plausible size."""
    made = model.build(
        architecture.Network(7, "v1.1", activation, bypass=bypass, conv10_padding=conv10_padding, image_size=SIZE),
        channel_means=(120.0, 110.0, 100.0),
        seed=1,
    )
    random = np.random.default_rng(1)
    conv10 = made.get_layer("conv10")
    kernel, _ = conv10.get_weights()
    conv10.set_weights([random.normal(0, 0.2, kernel.shape), random.normal(0, 1, 7)])
    return fold.inference_model(made, SIZE)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Smooth pictures: noise would give other ranges than photographs."""
    coarse = RNG.integers(0, 256, (48, 8, 8, 3)).astype(np.uint8)
    images = coarse.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    return list(images.reshape(6, 8, SIZE, SIZE, 3))


def as_written(path, images: np.ndarray) -> np.ndarray:
    """The probabilities of an ONNX file, node by node: no integer kernels that differ from processor to processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images.astype(np.float32)})[0]


def test_cross_layer_equalization_does_not_change_the_function(pictures):
    folded = network("relu")
    equal = int8._equalized(folded, pictures)
    images = pictures[0].astype(np.float32)
    assert np.abs(equal.predict(images, verbose=0) - folded.predict(images, verbose=0)).max() < 1e-5
    assert not np.allclose(equal.get_layer("conv1").kernel, folded.get_layer("conv1").kernel)


@pytest.mark.parametrize(
    ("activation", "bypass", "padding"),
    [
        ("relu", "none", 1),
        ("elu", "none", 0),
        pytest.param("relu", "simple", 0, marks=pytest.mark.slow),
        pytest.param("elu", "complex", 0, marks=pytest.mark.slow),
    ],
)
def test_all_int8_files_agree_on_every_processor(pictures, tmp_path, activation, bypass, padding):
    folded = network(activation, bypass, padding)
    quantized = int8.quantize(folded, pictures)
    tflite.write_int8(quantized, tmp_path / "model.tflite")
    onnx_int8.write(quantized, tmp_path / "model.onnx", "NHWC")
    onnx_int8.write(quantized, tmp_path / "model_nchw.onnx", "NCHW")
    images = np.concatenate(pictures)
    expected = folded.predict(images.astype(np.float32), verbose=0)
    for path in tmp_path.iterdir():
        audit.check(path, "int8")
    answers = {path.name: run_file(path, images) for path in tmp_path.iterdir()}
    answers["unfused"] = as_written(tmp_path / "model.onnx", images)
    for runtime, given in answers.items():
        assert np.abs(given - expected).mean() < 0.02, runtime
        assert np.abs(given - answers["model.tflite"]).mean() < 0.01, runtime
    # The same file, computed as on other processors.
    some = pictures[0]
    exact = processors.answers(tmp_path / "model.onnx", some, processors.with_vnni)
    for name in ("model.onnx", "model_nchw.onnx"):
        given = processors.answers(tmp_path / name, some, processors.without_vnni)
        np.testing.assert_array_equal(given, exact)
    assert np.abs(answers["model.onnx"][: len(some)] - exact).mean() < 0.01


@pytest.fixture(scope="module")
def large_weights(pictures, tmp_path_factory):
    """The int8 ONNX file of a network whose first weights are of one sign, so that sums of products are large."""
    import keras

    folder = tmp_path_factory.mktemp("large_weights")
    random.seed(3)  # Keras takes its seeds from it; of most networks the answers differ less
    folded = network("relu")
    kernel, bias = folded.get_layer("conv1").get_weights()
    folded.get_layer("conv1").set_weights([np.abs(kernel), bias])
    logits = keras.Model(folded.input, folded.get_layer("logits").output)(pictures[0].astype(np.float32))
    conv10 = folded.get_layer("conv10")  # with logits up to 4, no class has all of the probability
    conv10.set_weights([4 / float(np.max(logits)) * each for each in conv10.get_weights()])
    onnx_int8.write(int8.quantize(folded, pictures[:2]), folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def int8_kernels(large_weights):
    """The same file with the same weights as int8 instead of uint8."""
    proto = onnx.load(str(large_weights))
    for constant in proto.graph.initializer:
        if constant.data_type == onnx.TensorProto.UINT8 and constant.name.endswith(("_kernel_steps", "_kernel_zero")):
            steps = numpy_helper.to_array(constant).astype(np.int16) - onnx_int8.KERNEL_ZERO
            constant.CopyFrom(numpy_helper.from_array(steps.astype(np.int8), constant.name))
    path = large_weights.with_name("int8_kernels.onnx")
    onnx.save(proto, str(path))
    return path


def test_with_and_without_vnni_the_answers_are_the_same(pictures, large_weights):
    audit.check(large_weights, "int8")
    exact = processors.answers(large_weights, pictures[0], processors.with_vnni)
    without = processors.answers(large_weights, pictures[0], processors.without_vnni)
    np.testing.assert_array_equal(without, exact)
    assert np.abs(run_file(large_weights, pictures[0]) - exact).mean() < 0.01


def test_int8_kernels_are_refused_on_every_processor(pictures, large_weights, int8_kernels):
    exact = processors.answers(large_weights, pictures[0], processors.with_vnni)
    np.testing.assert_array_equal(processors.answers(int8_kernels, pictures[0], processors.with_vnni), exact)
    without = processors.answers(int8_kernels, pictures[0], processors.without_vnni)
    assert np.abs(without - exact).max() > 0.05
    with pytest.raises(InputError, match="gives other answers on x86 processors without VNNI: its weights are INT8"):
        audit.check(int8_kernels, "int8")


def test_processors_without_vnni_are_computed_as_they_are(pictures, int8_kernels):
    if "avx2" not in FEATURES or {"avx512_vnni", "avx_vnni"} & FEATURES:
        ci.cannot_have("needs an x86 processor with AVX2 and without VNNI")
    given = run_file(int8_kernels, pictures[0])
    ways = (processors.without_vnni, processors.with_vnni)
    cut, exact = (processors.answers(int8_kernels, pictures[0], way) for way in ways)
    assert np.abs(given - cut).mean() < 0.1 * np.abs(given - exact).mean()


def test_an_int8_onnx_file_is_a_quarter_of_the_size(bundle):
    for name in ("model_int8.onnx", "model_int8.tflite"):
        whole = (bundle / name.replace("_int8", "")).stat().st_size
        assert (bundle / name).stat().st_size < 0.32 * whole


def test_error_compensation_loses_less_than_rounding_to_nearest():
    random = np.random.default_rng(2)
    patches = random.normal(size=(500, 4)) @ random.normal(size=(4, 36))  # correlated inputs, as in feature maps
    kernel = random.normal(size=(3, 3, 4, 5)).astype(np.float32)
    scales = int8.kernel_scales(kernel) * 16  # coarse, to make the difference large
    flat = kernel.reshape(36, 5)

    def loss(rounded: np.ndarray) -> float:
        return float(((patches @ (rounded.reshape(36, 5) - flat)) ** 2).mean())

    careful = int8._round_kernel(kernel, scales, patches)
    assert loss(careful) < 0.5 * loss(np.round(kernel / scales) * scales)
    steps = careful / scales
    assert np.abs(steps - np.round(steps)).max() < 1e-3


def test_zero_is_a_step_of_every_range():
    for limits in ((0.0, 255.0), (-1.0, 7.3), (-3.0, 0.0)):
        scale, zero = int8.scale_and_zero(limits)
        assert 0 <= zero <= 255
        assert abs((0 - zero) * scale - limits[0]) <= scale
    assert int8.scale_and_zero(int8.PIXELS) == (1.0, 0)


def test_a_channel_whose_kernel_is_all_zeros_keeps_its_bias(pictures, tmp_path):
    """Such kernels come from pruning, or from batch norms with a factor of 0."""
    folded = network("relu")
    for name, channel in (("conv10", 3), ("fire5_squeeze1x1", 0)):
        kernel, bias = folded.get_layer(name).get_weights()
        kernel[..., channel], bias[channel] = 0, 2.5
        folded.get_layer(name).set_weights([kernel, bias])
    quantized = int8.quantize(folded, pictures)
    tflite.write_int8(quantized, tmp_path / "model.tflite")
    images = np.concatenate(pictures)
    expected = folded.predict(images.astype(np.float32), verbose=0)
    found = run_file(tmp_path / "model.tflite", images)
    assert np.abs(found - expected).mean() < 0.02
