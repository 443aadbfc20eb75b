"""`python -m sqznet.compress` on the small trained network: sizes, accuracy, decoding, refusals."""

from __future__ import annotations

import contextlib
import csv
import shutil

import keras
import numpy as np
import pytest

from sqznet.compress import __main__ as compress
from sqznet.core.errors import InputError
from sqznet.network import architecture, model
from sqznet.network.quantization import bit_price, pruning, rounding, sensitivity
from sqznet.network.sqz import decoder
from sqznet.predict import inference


def ask(trained_run, shard_set, out, *flags):
    return compress.main(
        [f"--model={trained_run}", f"--data={shard_set.folder}", f"--out={out}", "--calibration_records=32", *flags]
    )


@pytest.fixture(scope="module")
def compressed(trained_run, shard_set, tmp_path_factory):
    out = tmp_path_factory.mktemp("compressed") / "tiny.sqz"
    ask(trained_run, shard_set, out, "--target=190kB", "--max_drop=100")
    return out


def test_a_file_is_within_the_target_and_predicts_alike(compressed, trained_run, shard_set):
    assert 150_000 < compressed.stat().st_size <= 190_000  # a quarter of a byte for each of 730,000 weights
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    real, found = (inference.load(path).predict(images) for path in (trained_run, compressed))
    assert np.abs(real - found).max() < 0.35
    assert np.abs(real - found).mean() < 0.1
    assert inference.load(compressed).card.classes == shard_set.classes


def test_a_curve_lies_beside_it(compressed):
    with compressed.with_name("tiny-curve.csv").open() as file:
        lines = list(csv.DictReader(file))
    (chosen,) = (line for line in lines if line["chosen"] == "1")
    assert int(chosen["bytes"]) == compressed.stat().st_size
    assert {int(line["n"]) for line in lines} == {27}  # of test
    assert compressed.with_name("tiny-curve.png").read_bytes()[:4] == b"\x89PNG"


def test_too_few_records_for_the_allowed_loss_give_a_warning(trained_run, shard_set, tmp_path, capsys):
    quick = ["--no-measure", "--no-compensate", "--no-count_bits", "--target=190kB", "--max_drop=0.5"]
    with contextlib.suppress(InputError):  # so coarse a network may lose more
        ask(trained_run, shard_set, tmp_path / "tiny.sqz", *quick)
    said = capsys.readouterr()
    warning = "27 records cannot show a loss of 0.5 points: one record is 3.70 points, and even with no answer changed"
    assert warning in " ".join(said.err.split()) and warning in " ".join(said.out.split())


@pytest.mark.parametrize("format_name", compress.DECODED_FORMATS)
def test_a_decoded_file_has_the_same_weights_bit_for_bit(compressed, tmp_path, format_name):
    out = tmp_path / f"decoded.{format_name}"
    assert compress.main([f"--decode={compressed}", f"--format={format_name}", f"--out={out}"]) == 0
    stored = decoder.decode(compressed.read_bytes()).layers
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    if format_name == "keras":
        decoded, _ = inference.load_keras(out)
        for name, (kernel, bias) in stored.items():
            for mine, theirs in zip((kernel, bias), decoded.get_layer(name).get_weights(), strict=True):
                assert mine.tobytes() == theirs.tobytes(), name
        assert (inference.load(out).predict(images) == inference.load(compressed).predict(images)).all()
    else:
        kernels = [kernel for name, (kernel, _) in stored.items() if name != "conv1"]  # which takes the means in
        content = out.read_bytes()
        for kernel in kernels:
            in_order = kernel.transpose(3, 0, 1, 2) if format_name == "tflite" else kernel.transpose(3, 2, 0, 1)
            assert np.ascontiguousarray(in_order).tobytes() in content
        decoded, original = inference.load(out), inference.load(compressed)
        assert np.allclose(decoded.predict(images), original.predict(images), atol=1e-5)
        assert (decoded.card.classes, decoded.card.preprocessing) == (
            original.card.classes,
            original.card.preprocessing,
        )


@pytest.mark.parametrize("format_name", compress.DECODED_FORMATS)
def test_decoding_overwrites_no_file_without_out(compressed, tmp_path, format_name):
    packed = shutil.copy2(compressed, tmp_path / "best.sqz")
    trained = tmp_path / f"best.{format_name}"
    trained.write_text("trained")
    with pytest.raises(InputError, match=rf"{trained} exists, .*; nothing was written. .*--out=NAME.{format_name}"):
        compress.main([f"--decode={packed}", f"--format={format_name}"])
    assert trained.read_text() == "trained"


def test_the_replaced_file_is_described(compressed, trained_run, shard_set, tmp_path, capsys):
    out = shutil.copy2(compressed, tmp_path / "tiny.sqz")
    quick = ["--no-measure", "--no-compensate", "--no-count_bits", "--max_drop=100"]
    with pytest.raises(InputError, match=r"Nothing was written; .*tiny.sqz, .* 3 classes\), is unchanged$"):
        ask(trained_run, shard_set, out, *quick, "--split=train")
    assert out.read_bytes() == compressed.read_bytes()
    with pytest.raises(InputError, match=r"Nothing was written, and .*other.sqz does not exist$"):
        ask(trained_run, shard_set, tmp_path / "other.sqz", *quick, "--split=train")
    ask(trained_run, shard_set, out, *quick, "--target=150kB")
    said = " ".join(capsys.readouterr().out.split())
    assert f"replaced: {compressed.stat().st_size:,} bytes of " in said and "3 classes)" in said


@pytest.mark.slow
def test_an_unreachable_target_is_refused_with_the_smallest_size(trained_run, shard_set, tmp_path):
    out = tmp_path / "never.sqz"
    with pytest.raises(InputError, match=r"no file is within --target=2000 .*the smallest one has [\d,]+ bytes"):
        ask(trained_run, shard_set, out, "--target=2kB", "--no-compensate", "--no-measure", "--no-count_bits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target=none"], "argument --target: 'none' is not a size"),
        (["--max_drop=101"], "argument --max_drop: '101' is not a number from 0 to 100"),
        (["--split=train"], "is calibrated on train and measured on another split"),
        (["--format=png"], "argument --format: invalid choice: 'png'"),
        (["--sparsity=1"], "argument --sparsity: '1' is not a number of at least 0 and below 1"),
        (["--out=model.zip"], "--out=model.zip must end in .sqz"),
    ],
)
def test_flags_out_of_range_are_refused(trained_run, shard_set, flags, message):
    with pytest.raises(InputError, match=message):
        compress.main([f"--model={trained_run}", f"--data={shard_set.folder}", *flags])


def test_a_damaged_file_is_refused(compressed, tmp_path):
    content = bytearray(compressed.read_bytes())
    content[1000] ^= 1
    (tmp_path / "damaged.sqz").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.sqz cannot be decoded: its checksum is wrong"):
        inference.load(tmp_path / "damaged.sqz")


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match="no such file: nowhere.sqz"):
        compress.main(["--decode=nowhere.sqz"])


@pytest.fixture(scope="module")
def untrained():
    """A network without batch norm, and photographs of smooth noise."""
    made = model.build(
        architecture.Network(5, "v1.1", "relu", bypass="complex", image_size=48),
        channel_means=(120.0, 110.0, 100.0),
        seed=1,
    )
    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (32, 6, 6, 3)).astype(np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    for layer in model.convolutions(made):
        kernel, bias = layer.get_weights()
        spread = np.sqrt(2 / np.prod(kernel.shape[:3]))
        layer.set_weights([draw.normal(0, spread, kernel.shape), draw.normal(0, 0.1, bias.shape)])
    # Outputs that differ, from logits that the last ReLU lets pass.
    kernel, bias = made.get_layer("conv10").get_weights()
    maps = keras.Model(made.input, made.get_layer("conv10").input).predict_on_batch(images)
    made.get_layer("conv10").set_weights([kernel / (maps @ kernel[0, 0]).std(), bias + 4])
    reference = sensitivity.ReferenceLogits(made, images)
    return made, [images[:16], images[16:]], reference, sensitivity.measure(made, [images], reference)


def test_measuring_restores_the_weights(untrained):
    made, _, reference, found = untrained
    assert reference.divergence(made) < 1e-9
    assert set(found) == {layer.name for layer in model.convolutions(made)}
    assert all(each.per_output > 0 and each.per_weight > 0 for each in found.values())


@pytest.mark.slow
def test_every_stage_lowers_the_cost_at_an_equal_price(untrained):
    """Fewer bits, or a smaller divergence: cost is what both are together at the price."""
    made, batches, reference, found = untrained
    price = bit_price.at_size(bit_price.estimator(kernels_of(made), found), 0.25 * 1_000_000)

    def cost(**stages: bool) -> float:
        rounder = rounding.Rounder(made, batches, found, **stages)
        weights = {layer.name: layer.get_weights() for layer in model.convolutions(made)}
        integers = rounder.round(price)
        diverges = reference.divergence(made)
        for layer in model.convolutions(made):
            layer.set_weights(weights[layer.name])
        return bits_of(integers) + diverges / price

    plain = cost(compensate=False, count_bits=False)
    compensated = cost(compensate=True, count_bits=False)
    assert compensated < plain
    assert cost(compensate=True, count_bits=True) < compensated


def kernels_of(made) -> dict[str, np.ndarray]:
    return {layer.name: layer.get_weights()[0] for layer in model.convolutions(made)}


def bits_of(integers) -> float:
    bits = 0.0
    for each in integers.values():
        counts = np.unique(each.values, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return bits


def test_pruning_removes_the_given_fraction_and_the_least_important_weights_first(untrained):
    made, batches, _, found = untrained
    kernels = kernels_of(made)
    kept = pruning.masks(kernels, found, 0.6)
    total = sum(kernel.size for kernel in kernels.values())
    assert sum(int(each.sum()) for each in kept.values()) == total - int(0.6 * total)
    dearest_gone = max(
        (kernels[name][~each] ** 2).max(initial=0) * found[name].per_weight for name, each in kept.items()
    )
    cheapest_kept = min(
        (kernels[name][each] ** 2).min(initial=np.inf) * found[name].per_weight for name, each in kept.items()
    )
    assert dearest_gone <= cheapest_kept
    weights = made.get_weights()
    integers = rounding.Rounder(made, batches, found, kept=kept).round(1e-7)
    made.set_weights(weights)
    assert all((each.values[~kept[name]] == 0).all() for name, each in integers.items())


def test_steps_follow_the_price(untrained):
    made, _, _, found = untrained
    kernel = kernels_of(made)["fire5_expand3x3"]
    fine, coarse = (rounding.step_of(found["fire5_expand3x3"], kernel, price) for price in (1e-15, 4e-15))
    assert coarse == pytest.approx(2 * fine, rel=1e-5)
