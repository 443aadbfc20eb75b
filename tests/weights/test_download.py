"""Fetching weights by name, from a server on loopback."""

from __future__ import annotations

import hashlib
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sqznet import weights
from sqznet.core.errors import InputError
from sqznet.weights import download
from sqznet.weights.__main__ import main
from sqznet.weights.catalogue import CATALOGUE, Publication
from tests.weights import writers
from tests.weights.conftest import random_convolutions

CONTENT = np.random.default_rng(0).bytes(300_000)


@dataclass
class Server:
    """What it serves, how it misbehaves, and what it was asked."""

    url: str
    content: bytes = CONTENT
    break_after: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    knows_ranges: bool = True
    status: int | None = None
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            state.ranges.append(asked)
            if state.status is not None:
                self.send_error(state.status)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and state.knows_ranges else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.break_after.pop(0)] if state.break_after else body)

        def log_message(self, *args) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{running.server_port}/weights.bin")
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def files_in(cache: Path) -> list[str]:
    """But for the lock, which is empty."""
    return [each.name for each in cache.iterdir() if not each.name.endswith(".lock")]


def entry(server: Server, content: bytes = CONTENT) -> Publication:
    return Publication(server.url, len(content), hashlib.sha256(content).hexdigest(), "MIT", "none")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


def test_a_file_is_fetched_once_and_then_taken_from_the_cache(server, tmp_path):
    path = download.fetch("x", entry(server), tmp_path)
    assert path.read_bytes() == CONTENT
    assert download.fetch("x", entry(server), tmp_path) == path
    assert len(server.ranges) == 1
    assert files_in(tmp_path) == ["weights.bin"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = [100_000, 50_000]
    assert download.fetch("x", entry(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_run_goes_on_where_the_last_one_stopped(server, tmp_path):
    server.break_after = [10_000, 0, 0]
    with pytest.raises(InputError, match="the connection ended after 10,000 of 300,000 bytes.*Run the command again"):
        download.fetch("x", entry(server), tmp_path)
    assert [name.rsplit(".", 1)[1] for name in files_in(tmp_path)] == ["part"]
    server.ranges.clear()
    assert download.fetch("x", entry(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=10000-"]


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(server, tmp_path):
    server.break_after, server.knows_ranges = [100_000], False
    assert download.fetch("x", entry(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"more"], ids=["another", "longer"])
def test_a_wrong_file_leaves_nothing_in_the_cache(server, tmp_path, content):
    server.content = content
    with pytest.raises(InputError, match=r"is not x: 300,000 bytes with sha256 .* are expected.*; it was removed"):
        download.fetch("x", entry(server), tmp_path)
    assert files_in(tmp_path) == []


def test_a_wrong_file_in_the_cache_is_removed(server, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"something else")
    with pytest.raises(InputError, match="is not x"):
        download.fetch("x", entry(server), tmp_path)
    assert files_in(tmp_path) == []


def test_a_file_that_is_not_there_is_not_asked_for_again(server, tmp_path):
    server.status = 404
    with pytest.raises(InputError, match=r"cannot fetch x from http://127.0.0.1:\d+/weights.bin: HTTP Error 404"):
        download.fetch("x", entry(server), tmp_path)
    assert len(server.ranges) == 1


def test_a_server_that_cannot_be_reached_is_named(server, tmp_path):
    gone = Publication("http://127.0.0.1:1/weights.bin", 10, "0" * 64, "MIT", "none")
    with pytest.raises(
        InputError, match=r"cannot fetch x from http://127.0.0.1:1/weights.bin: .*put it at .*weights.bin"
    ):
        download.fetch("x", gone, tmp_path)


def test_several_that_fetch_at_once_do_not_disturb_each_other(server, tmp_path):
    """Such as the workers of a cluster with a shared home."""
    code = (
        "import sys; from pathlib import Path; from sqznet.weights import catalogue, download; "
        "url, count, digest, cache = sys.argv[1:]; "
        "print(download.fetch('x', catalogue.Publication(url, int(count), digest, '', ''), Path(cache)))"
    )
    wanted = entry(server)
    command = [sys.executable, "-c", code, server.url, str(wanted.bytes), wanted.sha256, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for each in running:
        each.communicate()
    assert [each.returncode for each in running] == [0, 0, 0, 0]
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_an_unusable_cache_is_named(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"file/cache: Not a directory; a file exists where a folder is needed; name another"
    ):
        download.fetch("x", entry(server), tmp_path / "file" / "cache")


def test_a_name_is_fetched_imported_and_written(server, tmp_path, monkeypatch, capsys):
    content = writers.caffemodel(random_convolutions(classes=3))
    server.content = content
    monkeypatch.setenv("SQZNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(CATALOGUE, "squeezenet-test", entry(server, content))
    assert main(["--weights=squeezenet-test", f"--out={tmp_path / 'model.keras'}"]) == 0
    assert "3 classes; read as caffemodel, trained on BGR less 104, 117, 123" in capsys.readouterr().out

    from sqznet.predict import inference

    card = inference.load(tmp_path / "model.keras").card
    assert card.weights["url"] == server.url and card.weights["licence"] == "MIT"
    assert inference.load(type(tmp_path)("squeezenet-test")).runtime.classes == 3  # wherever a model is asked for
    assert len(server.ranges) == 1


def test_the_catalogue_can_be_shown(capsys):
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    for name, each in CATALOGUE.items():
        assert name in printed and f"{each.bytes:,}" in printed and each.licence in printed
        assert each.url.startswith("https://") and re.fullmatch("[0-9a-f]{64}", each.sha256)


def test_the_published_file_in_the_shared_data_is_the_catalogue_s():
    from tests.weights.conftest import published_file

    entry = CATALOGUE["squeezenet-v1.0-compressed"]
    content = published_file("v1.0").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.bytes, entry.sha256)


def test_a_cached_file_is_used_without_a_network(tmp_path, monkeypatch):
    from tests.weights.conftest import published_file

    entry = CATALOGUE["squeezenet-v1.0-compressed"]
    (tmp_path / entry.file_name).write_bytes(published_file("v1.0").read_bytes())
    monkeypatch.setenv("SQZNET_CACHE", str(tmp_path))
    read = weights.read(type(tmp_path)("squeezenet-v1.0-compressed"))
    assert read.network.arch == "v1.0" and read.card.weights["licence"] == "none stated"
