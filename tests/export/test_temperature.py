"""A network with ELU divides by its temperature in the file, with operators that every runtime has."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sqznet.export import audit, onnx, onnx_int8, tflite
from sqznet.images.preprocessing import Preprocessing
from sqznet.network import class_map, fold, metadata, model
from sqznet.network.architecture import Network
from sqznet.network.keras_file import Card
from sqznet.network.quantization import int8
from sqznet.predict.runtimes import KerasRuntime, OnnxRuntime, TfliteRuntime

SIZE = 32


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    made = model.build(Network(5, "v1.1", "elu", image_size=SIZE), channel_means=(120.0, 110.0, 100.0))
    kernel, bias = made.get_layer("conv10").get_weights()
    made.get_layer("conv10").set_weights([30 * kernel, bias])  # logits that differ
    return made


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    "name",
    [
        "model.tflite",
        "model.onnx",
        pytest.param("model_int8.tflite", marks=pytest.mark.slow),
        pytest.param("model_int8.onnx", marks=pytest.mark.slow),
    ],
)
def test_a_file_with_elu_divides_by_the_temperature(trained, images, tmp_path, name):
    folded, path = fold.inference_model(trained, SIZE, 3.0), tmp_path / name
    match name:
        case "model.tflite":
            tflite.write(folded, path, "none")
        case "model.onnx":
            onnx.write(folded, path, "none")
        case "model_int8.tflite":
            tflite.write_int8(int8.quantize(folded, [images]), path)
        case _:
            onnx_int8.write(int8.quantize(folded, [images]), path)
    is_int8 = "int8" in name
    audit.check(path, "int8" if is_int8 else "none")
    runtime = (TfliteRuntime if path.suffix == ".tflite" else OnnxRuntime)(path)
    got = np.concatenate([runtime(image[None]) for image in images])
    expected, uncalibrated = (KerasRuntime(trained, SIZE, value)(images) for value in (3.0, 1.0))
    error = np.abs(got - expected).max()
    assert error < (0.05 if is_int8 else 1e-4)
    assert np.abs(uncalibrated - expected).max() > 2 * error


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_class_map_of_a_calibrated_network_gives_its_probabilities(activation, images, tmp_path):
    network = Network(5, "v1.1", activation, image_size=SIZE)
    calibrated = model.build(network, channel_means=(120.0, 110.0, 100.0))
    path, grid = tmp_path / "model.tflite", class_map.grid_of(network, 3.0)
    tflite.write(fold.inference_model(calibrated, SIZE, 3.0), path, "none", with_class_map=True)
    metadata.add_card(path, "tflite", Card(tuple("abcde"), Preprocessing(SIZE, SIZE)), "any", grid)
    runtime = TfliteRuntime(path)
    assert runtime.grid == KerasRuntime(calibrated, SIZE, 3.0).grid == grid
    found = [runtime.with_class_map(image[None]) for image in images]
    probabilities, maps = (np.concatenate(each) for each in zip(*found, strict=True))
    expected, expected_maps = KerasRuntime(calibrated, SIZE, 3.0).with_class_map(images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(maps, expected_maps, atol=1e-4)
    np.testing.assert_allclose(class_map.probabilities(maps, divisor=grid.divisor), probabilities, atol=1e-5)
