from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from sqznet.core import processor
from sqznet.core.errors import InputError
from sqznet.network import architecture, model
from sqznet.predict import inference
from sqznet.runs import checkpoint, run_folder
from sqznet.train import __main__ as train
from sqznet.train import loop, precision, settings, start, strategy
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((3, 7), "float32"),  # K80
        ((6, 0), "float32"),  # P100
        ((7, 0), "float16"),  # V100
        ((7, 5), "float16"),  # T4
        ((8, 0), "bfloat16"),  # A100
        ((9, 0), "bfloat16"),  # H100
    ],
)
def test_a_gpu_gets_the_format_that_it_has_units_for(capability, expected):
    assert precision.of_capability(capability) == expected


@pytest.mark.parametrize(
    ("features", "expected"),
    [({"avx2", "avx512f"}, "float32"), ({"avx512_bf16"}, "bfloat16"), ({"amx_bf16"}, "bfloat16"), (set(), "float32")],
)
def test_a_processor_gets_bfloat16_only_if_it_computes_in_it(monkeypatch, features, expected):
    monkeypatch.setattr(processor, "features", lambda: frozenset(features))
    assert precision.choose("auto") == expected
    assert precision.choose("float16") == "float16"


def _losses(wanted: str, steps: int = 12) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Mean losses of steps on one batch, and the weights after them."""
    recipe = TINY.replace(precision=wanted, dropout=0.0)
    one = strategy.create("one")
    network = architecture.Network(3, arch=recipe.arch, image_size=64)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 64, 64, 3), np.uint8), rng.integers(0, 3, 8)
    with one.scope():
        import keras

        keras.utils.set_random_seed(0)
        net = model.build(network, channel_means=(120.0, 120.0, 120.0), dropout=0.0)
        optimizer = loop.make_optimizer(recipe)
        optimizer.build(net.trainable_variables)
    batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
    iterator = iter(one.experimental_distribute_dataset(batches))
    sums = loop.make_train_steps(net, optimizer, recipe, one)(iterator, tf.fill([steps], 0.002)).numpy()
    assert {layer.compute_dtype for layer in net.layers if layer.variables} == {"float32"}, "outside a step"
    return sums[:, 0] / 8, checkpoint.read(checkpoint.model_variables(net))


@pytest.mark.parametrize(("wanted", "tolerance"), [("bfloat16", 2e-3), ("float16", 3e-4)])
def test_fewer_bits_give_the_same_losses_up_to_rounding(wanted, tolerance):
    losses, weights = _losses("float32")
    rounded, others = _losses(wanted)
    assert not np.array_equal(losses, rounded), "nothing was computed in fewer bits"
    np.testing.assert_allclose(rounded, losses, atol=tolerance)
    assert losses[-1] < losses[0] - 0.05
    for name, value in others.items():
        assert value.dtype == weights[name].dtype
        assert np.isfinite(value).all()


@pytest.mark.slow
def test_a_float16_run_resumes_with_its_loss_scale_and_leaves_a_float32_model(shard_set, tmp_path):
    recipe = TINY.replace(precision="float16", epochs=1, warmup_epochs=0)
    run_dir = tmp_path / "run"
    start.train(shard_set, recipe, strategy_name="one", replicas=None, run_dir=run_dir, resume=False)
    _, arrays, _ = checkpoint.load_last(run_dir)
    assert [value for name, value in arrays.items() if name.endswith("dynamic_scale")] > [1.0]
    stored = json.loads((run_dir / run_folder.CONFIG).read_text())["recipe"]
    assert stored["precision"] == "float16"
    start.train(
        shard_set, TINY.replace(**{**stored, "milestones": (), "train_sizes": ()}), strategy_name="one", replicas=None,
        run_dir=run_dir, resume=True,
    )  # fmt: skip
    net, _ = inference.load_keras(run_dir)
    assert {layer.dtype_policy.name for layer in net.layers if layer.variables} == {"float32"}


def test_a_resumed_run_keeps_its_precision(shard_set, trained_run):
    parse = train.make_parser().parse_args
    same = ["--resume", f"--run_dir={trained_run}", f"--recipe={trained_run / run_folder.CONFIG}"]
    assert settings.resumed(parse(same), {"precision": "auto"}).recipe.precision == "float32"
    with pytest.raises(InputError, match="--precision=float32, not bfloat16"):
        settings.resumed(parse(same), {"precision": "bfloat16"})


def test_a_profile_is_written_where_tensorboard_looks(shard_set, tmp_path):
    start.train(
        shard_set, TINY.replace(epochs=1, warmup_epochs=0), strategy_name="one", replicas=None,
        run_dir=tmp_path / "run", resume=False, profile=4,
    )  # fmt: skip
    written = list((tmp_path / "run" / run_folder.EVENTS).glob("plugins/profile/*/*.xplane.pb"))
    assert len(written) == 1
    assert b"train_steps" in written[0].read_bytes()
