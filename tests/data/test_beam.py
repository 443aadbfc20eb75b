from __future__ import annotations

import re
import shutil

import pytest

from sqznet.core.errors import InputError
from sqznet.data import __main__ as command
from sqznet.data import shard_plan, shards, sources
from tests.conftest import build_set
from tests.data.test_build import tree


def test_beam_writes_the_bytes_that_a_local_build_writes(photographs, shard_set, tmp_path, capfd):
    out = tmp_path / "set"
    build_set(f"folder:{photographs}", out, beam_flags="")
    assert tree(out) == tree(shard_set.folder)
    assert "Warning" not in capfd.readouterr().err


def test_beam_finishes_an_interrupted_build(photographs, shard_set, tmp_path, monkeypatch):
    out, real = tmp_path / "set", shards.write

    def write_some(reader, shard, *args):
        if len(list(out.glob("*.tfrecord"))) == 4:
            raise InputError(f"{shard.file} could not be written")
        return real(reader, shard, *args)

    monkeypatch.setattr(shards, "write", write_some)
    with pytest.raises(InputError, match=r"^\S+.tfrecord could not be written$"):
        build_set(f"folder:{photographs}", out, beam_flags="")
    stand = {path: path.stat().st_mtime_ns for path in out.glob("*.tfrecord")}
    assert len(stand) == 4 and not (out / "manifest.json").exists()
    monkeypatch.undo()
    build_set(f"folder:{photographs}", out, beam_flags="")
    assert tree(out) == tree(shard_set.folder)
    assert {path: path.stat().st_mtime_ns for path in stand} == stand


def test_a_file_that_cannot_be_used_is_listed_or_named(photographs, tmp_path):
    shutil.copytree(photographs, tmp_path / "photos")
    bad = next((tmp_path / "photos" / "train").rglob("*.jpg"))
    bad.write_bytes(b"no photograph")
    with pytest.raises(InputError, match=rf"{bad.name}: .*--strict stops at the first such file\)$"):
        build_set(f"folder:{tmp_path / 'photos'}", tmp_path / "strict", strict=True, beam_flags="")
    made = build_set(f"folder:{tmp_path / 'photos'}", tmp_path / "set", beam_flags="")
    assert made.records("train") == 119
    assert bad.name in (made.folder / "rejects.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runner=spark"], "argument --runner: invalid choice: 'spark'"),
        (["--beam_options=--runner=DirectRunner"], "--beam_options goes with --runner=beam"),
    ],
)
def test_invalid_flags_of_beam_are_refused(flags, message, tmp_path):
    with pytest.raises(InputError, match=message):
        command.main(["--source=synthetic", f"--out={tmp_path}", *flags])


def test_an_unknown_runner_gives_an_error(photographs, tmp_path):
    with pytest.raises(InputError, match=r"Beam could not write all shards .*run the same command again"):
        build_set(f"folder:{photographs}", tmp_path / "set", beam_flags="--runner=NoSuchRunner")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--runner='Direct", "--beam_options=--runner='Direct: No closing quotation"),
        ("--direct_num_workers=many", "Apache Beam does not take --beam_options='--direct_num_workers=many'"),
    ],
)
def test_flags_that_beam_cannot_read_are_refused(photographs, tmp_path, flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build_set(f"folder:{photographs}", tmp_path / "set", beam_flags=flags)


def test_a_worker_that_cannot_see_the_photographs_stops_the_build(photographs, tmp_path):
    reader = sources.open_source(f"folder:{photographs}", seed=0)
    (shard, *_) = shard_plan.plan_shards(reader, seed=0)
    reader.root = tmp_path / "elsewhere"
    with pytest.raises(InputError, match=r"no such folder on \S+: \S+elsewhere; every worker has to see it"):
        shards.write(reader, shard, tmp_path, shard_plan.BuildOptions())
