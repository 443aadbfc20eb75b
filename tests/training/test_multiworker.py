from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np

from sqznet.training import checkpoint

FLAGS = ["--recipe=imagenette", "--no-batch_norm", "--dropout=0", "--image_size=32", "--global_batch_size=8"]
FLAGS += ["--epochs=1", "--warmup_epochs=0", "--learning_rate=0.005"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(flags: list[str], tf_config: dict | None = None) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    command = [sys.executable, "-m", "sqznet.train", *FLAGS, *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_workers_on_loopback_train_the_same_weights_as_one(shard_set, tmp_path):
    data = f"--data={shard_set.folder}"
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(2)]}
    workers = [
        start(
            [data, "--strategy=multiworker", f"--run_dir={tmp_path / f'worker{index}'}"],
            {"cluster": cluster, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    alone = start([data, "--strategy=one", f"--run_dir={tmp_path / 'alone'}"])
    for process in [*workers, alone]:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert not (tmp_path / "worker1").exists()  # only the chief writes
    _, together, _ = checkpoint.load_last(tmp_path / "worker0")
    _, expected, _ = checkpoint.load_last(tmp_path / "alone")
    assert set(together) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(together[name], array, rtol=5e-3, atol=5e-4, err_msg=name)
