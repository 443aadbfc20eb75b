from __future__ import annotations

import shutil

import pytest

from sqznet.core.errors import InputError
from sqznet.data import __main__ as command
from sqznet.data import build, manifest, pipeline
from sqznet.images.preprocessing import Preprocessing


@pytest.fixture
def folder(photographs, tmp_path):
    """A built set of twelve photographs of each class, and a new photograph of the first class."""
    for name in ("ball", "house", "star"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            shutil.copy(photographs / "train" / name / f"{number:03d}.jpg", tmp_path / "photos" / name)
    run(tmp_path)
    shutil.copy(photographs / "train" / "ball" / "039.jpg", tmp_path / "photos" / "ball")
    return tmp_path


def run(folder, *flags):
    return command.main([f"--source=folder:{folder / 'photos'}", f"--out={folder / 'set'}", "--workers=1", *flags])


def labels(made: manifest.Manifest) -> list[int]:
    batches = pipeline.examples(made, "train", Preprocessing(32, 32), None, 64)
    return [int(label) for _, some in batches for label in some]


def test_an_added_photograph_is_reported_with_the_update_flag(folder):
    with pytest.raises(
        InputError, match=r"built from other photographs: 36, and now there are 37 \(1 photograph more\)"
    ):
        run(folder)
    with pytest.raises(InputError, match="add --update to rebuild it in the same folder"):
        run(folder)


def test_a_removed_and_a_renamed_photograph_are_reported(folder):
    photos = folder / "photos" / "ball"
    (photos / "039.jpg").rename(photos / "a new name.jpg")
    (photos / "000.jpg").unlink()
    with pytest.raises(InputError, match=r"other photographs: as many \(36\), with other names or in other places"):
        run(folder)
    (photos / "a new name.jpg").unlink()
    with pytest.raises(InputError, match=r"36, and now there are 35 \(1 photograph fewer\)"):
        run(folder)


def test_an_updated_set_holds_what_a_fresh_one_would(folder, capfd):
    run(folder, "--update")
    assert "36, and now there are 37 (1 photograph more); rebuilding it" in capfd.readouterr().err
    updated = build.verify(folder / "set")
    fresh = folder / "fresh"
    command.main([f"--source=folder:{folder / 'photos'}", f"--out={fresh}", "--workers=1"])
    for one, other in zip(updated.shards, manifest.load(fresh).shards, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    run(folder)  # the same command finds it finished
    assert not (folder / "set" / ".build").exists()


def test_a_running_training_continues_with_the_old_set(folder):
    old = manifest.load(folder / "set")
    before = labels(old)
    run(folder, "--update")
    assert labels(old) == before
    assert len(labels(manifest.load(folder / "set"))) == old.records("train") + 1
    run(folder, "--update")  # nothing new: what the set before left is cleared away
    assert not any(shard.path.exists() for shard in old.shards)
    build.verify(folder / "set")


@pytest.mark.parametrize("at", ["_described", "_finish"])
def test_an_interrupted_update_keeps_the_old_set_and_can_be_finished(folder, monkeypatch, at):
    old = manifest.load(folder / "set").content

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, at, cut)
        run(folder, "--update")
    assert build.verify(folder / "set").content == old
    run(folder, "--update")
    assert build.verify(folder / "set").records("train") == 25


def test_other_options_are_an_update_and_another_source_is_not(folder, photographs):
    run(folder, "--update", "--short_side=32")
    assert manifest.load(folder / "set").content["options"]["short_side"] == 32
    with pytest.raises(InputError, match="--update takes photographs from the same place"):
        command.main([f"--source=folder:{photographs}", f"--out={folder / 'set'}", "--update"])


def test_an_update_that_loses_a_class_keeps_the_old_set(folder):
    old = manifest.load(folder / "set").content
    for path in (folder / "photos" / "star").iterdir():
        path.write_bytes(b"no photograph")
    with pytest.raises(InputError, match="run the same command again: the old set stays until then"):
        run(folder, "--update")
    assert build.verify(folder / "set").content == old


def test_the_classes_and_their_counts_are_printed(folder, capfd):
    run(folder, "--update")
    printed = capfd.readouterr()
    assert ["│", "ball", "│", "9", "│", "2", "│", "2", "│"] in [line.split() for line in printed.out.splitlines()]
    assert "val has 6 photographs, and one of them is 16.7 points of top-1" in printed.err
    assert "next: python -m sqznet.train --data=" in printed.err


def test_an_interrupted_build_restarts_with_update_if_photographs_were_added(folder, photographs, monkeypatch, capfd):
    def stopped(*_):
        raise KeyboardInterrupt

    shutil.rmtree(folder / "set")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, "_finish", stopped)
        run(folder)
    shutil.copy(photographs / "train" / "ball" / "038.jpg", folder / "photos" / "ball")
    with pytest.raises(InputError, match="was built from other photographs; .* or add --update"):
        run(folder)
    run(folder, "--update")
    assert "holds an unfinished build" in capfd.readouterr().err
    made = build.verify(folder / "set")
    assert sum(shard.records for shard in made.shards) == 38
    assert {path.name for path in (folder / "set").glob("*.tfrecord")} == {shard.path.name for shard in made.shards}
