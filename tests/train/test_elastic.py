from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sqznet.launch import local_cluster

STEPS = 20
SCRIPT = """
import json, sys
from pathlib import Path
from sqznet.core import startup
startup.load_tensorflow()
from sqznet.data import manifest
from sqznet.train import loop, start
from sqznet.train.cluster import Cluster
from tests.conftest import TINY

data, run_dir, strategy, replicas, fields, workers, index = sys.argv[1:]
losses = []

class Recorded(loop.Sums):
    def __init__(self, *sums):
        super().__init__(*sums)
        if sums and sums[3] == 24:
            losses.append(sums[0] / sums[3])

from sqznet.train import run
real = run.Run._train_call
def call(self, iterator, steps):
    run.Sums = Recorded
    real(self, iterator, steps)
    run.Sums = loop.Sums
run.Run._train_call = call
recipe = TINY.replace(
    batch_norm=False, activation="elu", dropout=0.5, image_size=48, resize_to=48, learning_rate=0.002,
    global_batch_size=24, total_steps=20, **json.loads(fields),
)
start.train(
    manifest.load(Path(data)), recipe, strategy_name=strategy, replicas=int(replicas) or None, run_dir=Path(run_dir),
    machines=Cluster(tuple(workers.split(",")), int(index)) if workers else None, resume=False,
    chosen={"global_batch_size"},
)
print(json.dumps(losses))
"""


def losses(data: Path, run_dir: Path, strategy: str, replicas: int, workers: int = 1, **fields) -> list[float]:
    """The loss of each step, on processes of their own."""
    addresses = ",".join(f"127.0.0.1:{port}" for port in local_cluster.free_ports(workers)) if workers > 1 else ""
    command = [sys.executable, "-c", SCRIPT, str(data), str(run_dir), strategy, str(replicas)]
    command += [json.dumps(fields), addresses]
    processes = [
        subprocess.Popen(
            [*command, str(index)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )
        for index in range(workers)
    ]  # fmt: skip
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, said
    found = [json.loads(output.splitlines()[-1]) for output, _ in said]
    assert all(each == found[0] for each in found)
    return found[0]


@pytest.mark.slow
def test_losses_do_not_depend_on_replicas_and_workers(shard_set, tmp_path):
    """With dropout, whose mask is the global batch's; batch norm would make rounding grow tenfold a step."""
    data = shard_set.folder
    one = losses(data, tmp_path / "one", "one", 0)
    two = losses(data, tmp_path / "two", "mirrored", 2)
    workers = losses(data, tmp_path / "workers", "multiworker", 0, workers=2)
    assert len(one) == STEPS and max(one) - min(one) > 0.1
    assert two == pytest.approx(one, abs=1e-5)
    assert workers == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_class_weights_and_balanced_sampling_do_not_depend_on_replicas(uneven_set, tmp_path):
    fields = {"class_weights": "effective", "sampling": "balanced"}
    one = losses(uneven_set.folder, tmp_path / "one", "one", 0, **fields)
    two = losses(uneven_set.folder, tmp_path / "two", "mirrored", 2, **fields)
    assert len(one) == STEPS and max(one) - min(one) > 0.1
    assert two == pytest.approx(one, abs=1e-5)
