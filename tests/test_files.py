from __future__ import annotations

import pytest

from sqznet import files


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        raise KeyError
    assert list(path.parent.iterdir()) == []
    files.write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyError), files.replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "folder"
    for name in ("first", "second"):
        with files.replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [each.name for each in path.iterdir()] == ["second"]
    assert files.size_of(path) == len("second")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
