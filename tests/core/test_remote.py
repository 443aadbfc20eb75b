"""Folders that TensorFlow reaches by itself, when it does not reach them."""

from __future__ import annotations

import pytest
import tensorflow as tf

from sqznet.core import remote
from sqznet.core.errors import InputError, TryAgain


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (tf.errors.UnavailableError, TryAgain),
        (tf.errors.DeadlineExceededError, TryAgain),
        (tf.errors.AbortedError, TryAgain),
        (tf.errors.PermissionDeniedError, InputError),
    ],
)
def test_what_keeps_a_folder_from_being_seen_is_told(error, kind, monkeypatch):
    def stat(url):
        raise error(None, None, "no network")

    monkeypatch.setattr(tf.io.gfile, "stat", stat)
    for ask in (remote.Remote("ram://b/f").is_dir, remote.Remote("ram://b/f").is_file, remote.Remote("ram://b/f").stat):
        with pytest.raises(InputError, match="ram://b/f cannot be read: no network") as raised:
            ask()
        assert type(raised.value) is kind


def test_files_and_folders_are_told_apart():
    tf.io.gfile.makedirs("ram://remote/folder")
    with tf.io.gfile.GFile("ram://remote/folder/file", "w") as file:
        file.write("x")
    folder = remote.Remote("ram://remote/folder")
    assert folder.is_dir() and not folder.is_file()
    assert (folder / "file").is_file() and not (folder / "file").is_dir() and (folder / "file").stat().st_size == 1
    assert not (folder / "none").is_file() and not (folder / "none").is_dir()
