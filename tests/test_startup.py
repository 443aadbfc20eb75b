from __future__ import annotations

from pathlib import Path

import pytest

from sqznet import startup
from sqznet.data import __main__ as data

V1 = "4:memory:/elsewhere\n3:cpu,cpuacct:{}\n"
V2 = "0::{}\n"


def cores_of(root: Path, membership: str, limits: dict[str, str]) -> int:
    """`startup.cores` under a tree of control groups with these files."""
    for name, content in limits.items():
        (root / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "groups" / name).write_text(content + "\n")
    (root / "membership").write_text(membership)
    return startup.cores(root / "groups", root / "membership")


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "50000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "max 100000"}, 64),
        (V2.format("/a/b"), {"a/b/cpu.max": "300000 100000"}, 3),
        (V2.format("/a/b"), {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4),  # the group above
        (V2.format("/a/b"), {"a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"}, 4),
        (V2.format("/host/path"), {"cpu.max": "200000 100000"}, 2),  # mounted as root in the container
        (V2.format("/../../a"), {"cpu.max": "200000 100000"}, 2),  # a namespace of groups, entered from outside
        (V2.format("/a"), {"unified/a/cpu.max": "200000 100000"}, 2),
        (V1.format("/"), {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        (V1.format("/d/c"), {"cpu/d/c/cpu.cfs_quota_us": "50000", "cpu/d/c/cpu.cfs_period_us": "10000"}, 5),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (V2.format("/"), {"cpu.max": "nonsense"}, 64),
        (V2.format("/"), {}, 64),
    ],
)
def test_cores_are_those_of_the_control_groups(tmp_path, monkeypatch, membership, limits, expected):
    monkeypatch.setattr(startup, "_allowed", lambda: 64)
    assert cores_of(tmp_path, membership, limits) == expected


def test_without_control_groups_cores_are_those_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "_allowed", lambda: 64)
    assert startup.cores(tmp_path / "none", tmp_path / "none either") == 64


def test_data_starts_as_many_processes_as_the_container_has_cores(monkeypatch):
    monkeypatch.setattr(startup, "cores", lambda: 3)
    assert data.make_parser().parse_args(["--out=x"]).workers == 3


def test_runtimes_are_given_their_threads_only_where_they_would_count_wrongly(monkeypatch):
    monkeypatch.setattr(startup.os, "cpu_count", lambda: 8)
    for cores, expected in ((2, 2), (8, None)):
        monkeypatch.setattr(startup, "cores", lambda count=cores: count)
        assert startup.threads() == expected
