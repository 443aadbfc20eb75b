from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sqznet.core import console
from sqznet.core.errors import InputError, TryAgain
from sqznet.data import pipeline, service
from sqznet.launch import __main__ as command
from sqznet.launch import local_cluster
from sqznet.recipes import schedule
from sqznet.runs import checkpoint
from tests.conftest import TINY

WHOLE = TINY.replace(crop="window", epochs=2)  # whole photographs, mirrored or not, can be told apart


@pytest.fixture(scope="module")
def decoders():
    """A data service in this process: its address."""
    from tensorflow.data.experimental import service as servers

    dispatcher = servers.DispatchServer(servers.DispatcherConfig(port=0))
    address = dispatcher.target.removeprefix("grpc://")
    workers = [servers.WorkerServer(servers.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    yield dispatcher.target
    del workers, dispatcher


def counts(batches) -> dict[bytes, int]:
    seen: dict[bytes, int] = {}
    for images, *_ in batches.as_numpy_iterator():
        for image in images:
            key = min(image.tobytes(), image[:, ::-1].tobytes())
            seen[key] = seen.get(key, 0) + 1
    return seen


def test_a_data_service_gives_every_record_once_an_epoch(shard_set, decoders):
    plan = schedule.plan(WHOLE, shard_set.records("train"))
    local = counts(pipeline.training_batches(shard_set, plan, replicas=1))
    served = counts(pipeline.training_batches(shard_set, plan, replicas=1, service=decoders))
    assert len(local) == 120 and set(local.values()) == {2}
    assert served == local


def test_a_resumed_run_is_served_what_it_lacks(shard_set, decoders):
    """To the shard: of 120 records in eight shards up to 15 come twice, none is missing."""
    plan = schedule.plan(WHOLE.replace(epochs=1), shard_set.records("train"))
    assert len(shard_set.shards_of("train")) == 8
    rest = pipeline.training_batches(shard_set, plan, replicas=1, start_step=7, service=decoders)
    seen = counts(rest)
    assert sum(seen.values()) == 120 - 7 * 8
    assert set(seen.values()) == {1}


def test_sizes_that_change_do_not_go_with_a_data_service(shard_set, decoders):
    plan = schedule.plan(WHOLE.replace(train_sizes=((0, 24), (1, 32))), shard_set.records("train"))
    with pytest.raises(InputError, match=r"has 2 \(train_sizes\): add --train_sizes=0:32"):
        pipeline.training_batches(shard_set, plan, replicas=1, service=decoders)


def test_no_free_port_may_pass(monkeypatch):
    monkeypatch.setattr(local_cluster, "PORTS", range(29_100, 29_100))
    with pytest.raises(TryAgain, match="1 free ports are needed"):
        local_cluster.free_ports(1)


@pytest.mark.parametrize("flags", [["--listen=127.0.0.1:0"], ["--dispatcher=127.0.0.1:1"]])
def test_a_data_service_that_waits_shows_no_sign_of_life(flags, monkeypatch):
    from tensorflow.data.experimental import service as servers

    class Server:
        target = "grpc://127.0.0.1:5"

        def __init__(self, config) -> None:
            pass

        def join(self) -> None:
            assert console._last_output == math.inf

    monkeypatch.setattr(console, "_last_output", 0.0)
    monkeypatch.setattr(servers, "DispatchServer", Server)
    monkeypatch.setattr(servers, "WorkerServer", Server)
    monkeypatch.setattr(service, "await_dispatcher", lambda text: None)
    assert service.main(flags) == 0


def test_a_data_service_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(service, "TIMEOUT", 0)
    (port,) = local_cluster.free_ports(1)
    with pytest.raises(InputError, match=rf"no dispatcher answers at --data_service=grpc://127.0.0.1:{port}"):
        service.await_dispatcher(f"grpc://127.0.0.1:{port}", "--data_service")
    with pytest.raises(InputError, match="--data_service=nowhere is not host:port"):
        service.await_dispatcher("nowhere", "--data_service")


@pytest.mark.slow
def test_a_cluster_of_every_kind_of_process_trains_and_stops_together(shard_set, tmp_path):
    """SIGTERM to one worker, which is not the chief."""
    flags = [
        f"--data={shard_set.folder}", f"--run_dir={tmp_path / 'run'}", "--recipe=imagenette", "--image_size=32",
        "--train_sizes=0:32", "--global_batch_size=24", "--epochs=500",
    ]  # fmt: skip
    command = [sys.executable, "-m", "sqznet.launch", "--workers=2", "--data_workers=1", "--", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "[worker 0] epoch 1:" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = [int(each) for each in children if "--worker_index=1" in Path(f"/proc/{each}/cmdline").read_text()]
    os.kill(second, signal.SIGTERM)
    said += process.stderr.read()
    assert process.wait(timeout=100) == 128 + signal.SIGTERM, said
    for name in ("[dispatcher] ", "[data worker 0] ", "[worker 0] SqueezeNet", "[worker 1] SqueezeNet"):
        assert name in said
    for worker in (0, 1):
        assert f"[worker {worker}] stopped by SIGTERM; go on with: " in said
        assert "SqueezeNet v1.1" in (tmp_path / "run" / "logs" / f"worker-{worker}.log").read_text()
    assert checkpoint.steps(tmp_path / "run")[-1] >= 5


@pytest.fixture
def modules(tmp_path, monkeypatch) -> Path:
    """A folder that processes find modules in."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "waiting.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    (tmp_path / "failing.py").write_text("print('no', flush=True)\nraise SystemExit(3)\n")
    return tmp_path


def test_the_first_failure_ends_the_others_and_is_the_exit_code(modules, capfd):
    grace, local_cluster.GRACE = local_cluster.GRACE, 1
    try:
        assert local_cluster.run({"worker 0": ["waiting"], "worker 1": ["failing"]}) == 3
    finally:
        local_cluster.GRACE = grace
    said = capfd.readouterr().err
    assert "[worker 1] no" in said
    assert "worker 1 ended with code 3; waiting up to 1 s for the others" in said


LAUNCH = (
    "from sqznet.launch import local_cluster; "
    "local_cluster.run({'worker 0': ['waiting', 'mark'], 'dispatcher': ['waiting', 'mark']})"
)


def test_no_process_is_left_when_the_launching_one_is_killed(modules):
    mark = str(modules / "mark")
    process = subprocess.Popen([sys.executable, "-c", LAUNCH.replace("mark", mark)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert {process.stderr.readline() for _ in range(2)} == {"[worker 0] up\n", "[dispatcher] up\n"}
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while left := with_argument(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def with_argument(argument: str) -> list[str]:
    """The command lines of processes that have this argument."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            lines.append(path.read_bytes().decode(errors="replace").split("\0"))
    return [" ".join(line) for line in lines if argument in line]


def test_no_two_processes_are_given_the_same_port(monkeypatch):
    """Though both choose from few, and neither listens yet."""
    monkeypatch.setattr(local_cluster, "PORTS", range(29_000, 29_030))
    ask = (
        "from sqznet.launch import local_cluster; local_cluster.PORTS = range(29_000, 29_030); "
        "print(*local_cluster.free_ports(10)); input()"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    given = [*local_cluster.free_ports(5)]
    for process in others:
        assert process.stdout is not None
        given += [int(port) for port in process.stdout.readline().split()]
    for process in others:
        process.communicate("\n")
    assert len(given) == len(set(given)) == 25
    local_cluster._ports.close()


def test_workers_train_in_one_folder_though_none_is_named(monkeypatch):
    started = {}
    monkeypatch.setattr(local_cluster, "run", lambda commands: started.update(commands) or 0)
    assert command.main(["--workers=2", "--", "--data=data/demo"]) == 0
    one, other = ([flag for flag in command if flag.startswith("--run_dir=")] for command in started.values())
    assert one == other and one[0].startswith("--run_dir=runs/")
    assert command.main(["--workers=2", "--", "--run_dir=runs/two"]) == 0
    assert [command.count("--run_dir=runs/two") for command in started.values()] == [1, 1]
    assert not [flag for command in started.values() for flag in command if flag.endswith("-workers")]


@pytest.mark.slow
def test_workers_of_a_fresh_clone_build_the_demo_set_once(tmp_path):
    """As docs/cluster.md has it: nobody has built data/demo."""
    flags = ["--data=data/demo", "--recipe=demo", "--total_steps=2", "--image_size=32", "--run_dir=runs/two"]
    command = [sys.executable, "-m", "sqznet.launch", "--workers=2", "--", *flags]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "waiting: another process builds data/demo: python -m sqznet.train --strategy=multiworker" in done.stderr
    assert checkpoint.steps(tmp_path / "runs" / "two")[-1] == 2
