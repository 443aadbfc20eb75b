"""The server of the web page serves its own files and refuses all others."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sqznet.core.errors import InputError
from sqznet.serve import __main__ as serve
from sqznet.serve import server as web_server

SECRET = b"secret"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page and a bundle, with files beside them that must not be served."""
    root = tmp_path_factory.mktemp("serve")
    written = {
        "web/index.html": b'<script type="importmap">{}</script>',
        "web/app.js": b"1",
        "web/.hidden.js": SECRET,
        "web/.git/config": SECRET,
        "web/node_modules/.package-lock.json": SECRET,
        "bundle/manifest.json": b"{}",
        "bundle/model.tflite": b"TFL3",
        "bundle/golden/0.png": b"png",
        "secret.txt": SECRET,
        "web-secret/index.html": SECRET,
    }
    for package in web_server.PACKAGES:
        for name in ("a.mjs", "a.js", "a.wasm"):
            written[f"web/node_modules/{package}/{name}"] = b"0"
    for name, content in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "bundle" / "link.txt").symlink_to(root / "secret.txt")
    (root / "bundle" / "folder").symlink_to(root)
    (root / "bundle" / "hidden").symlink_to(root / "web" / ".git")
    (root / "bundle" / "same.png").symlink_to(root / "bundle" / "golden" / "0.png")
    return root


@pytest.fixture(scope="module")
def port(root: Path):
    with web_server.open_server(web_server.find_site(root / "bundle", root / "web"), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(port: int, target: str, method: str = "GET", host: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and content; the target is sent unchanged, with its dots."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, target, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    headers, content = {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return answer.status, headers, content


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?x=1", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/node_modules/onnxruntime-web/a.mjs", "text/javascript; charset=utf-8"),
        ("/node_modules/onnxruntime-web/a.wasm", "application/wasm"),
        ("/node_modules/%40litertjs/core/a.js", "text/javascript; charset=utf-8"),
        ("/model/manifest.json", "application/json"),
        ("/model/model.tflite", "application/octet-stream"),
        ("/model/golden/0.png", "image/png"),
        ("/model/same.png", "image/png"),
    ],
)
def test_files_are_served_whole_with_their_type(port, target, kind):
    status, headers, content = ask(port, target)
    assert (status, headers["content-type"], headers["content-length"]) == (200, kind, str(len(content)))
    assert content and SECRET not in content


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/model/../../secret.txt",
        "/model/%2e%2e/secret.txt",
        "/model/%2E%2E%2Fsecret.txt",
        "/model/..%2fsecret.txt",
        "/model/..%5csecret.txt",
        "/model/%252e%252e/secret.txt",
        "/node_modules/../../secret.txt",
        "/../web-secret/index.html",
        "/..%2fweb-secret%2findex.html",
        "//secret.txt",
        "/model//secret.txt",
        "/model/golden/0.png%00.txt",
        "/model/" + "a" * 5000,
        "http://[/secret.txt",
        "/.hidden.js",
        "/.git/config",
        "/node_modules/.package-lock.json",
        "/model/link.txt",
        "/model/folder/secret.txt",
        "/model/folder/web/.git/config",
        "/model/hidden/config",
        "/model",
        "/model/",
        "/model/golden",
        "/model/golden/",
        "/node_modules/",
        "/node_modules/onnxruntime-web",
        "/nothing.js",
        "/app.js/",
    ],
)
def test_other_files_are_not_served(port, target):
    status, _, content = ask(port, target)
    assert status == 404
    assert SECRET not in content and b"0.png" not in content


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:{port}", "0.0.0.0:{port}", "localhost:1", ""])
def test_a_foreign_host_name_is_refused(port, host):
    status, _, content = ask(port, "/model/manifest.json", host=host.format(port=port))
    assert status == 403
    assert b"{}" not in content


def test_localhost_is_accepted(port):
    assert ask(port, "/", host=f"localhost:{port}")[0] == 200


def test_only_get_and_head_are_answered(port):
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(port, "/", method)[0] == 501
    status, headers, content = ask(port, "/app.js", "HEAD")
    assert (status, headers["content-length"], content) == (200, "1", b"")


@pytest.mark.parametrize("target", ["/", "/nothing.js"])
def test_every_answer_has_the_security_headers(port, target):
    _, headers, _ = ask(port, target)
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    # echo -n '{}' | openssl dgst -sha256 -binary | base64
    assert policy["script-src"] == ("'self' 'wasm-unsafe-eval' 'sha256-RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o='")
    assert not re.search(r"https?:|\*", headers["content-security-policy"])


def test_the_server_listens_on_127_0_0_1_only(port):
    with socket.socket() as other, pytest.raises(OSError):
        other.settimeout(2)
        other.connect(("127.0.0.2", port))


def test_a_taken_port_is_named(root, port):
    with pytest.raises(InputError, match=f"--port={port} is in use; give another, or --port=0"):
        serve.main([f"--model={root / 'bundle'}", f"--web={root / 'web'}", f"--port={port}"])
    with pytest.raises(InputError, match="argument --port: '70000' is not a whole number from 0 to 65535"):
        serve.main([f"--model={root / 'bundle'}", f"--web={root / 'web'}", "--port=70000"])


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(InputError, match=r"has no manifest.json; --model must be a folder written by"):
        web_server.find_site(root / "web", root / "web")
    with pytest.raises(InputError, match="is not a folder; it must be the folder of a bundle"):
        web_server.find_site(root / "bundle" / "model.tflite", root / "web")
    with pytest.raises(InputError, match="has no index.html; --web must name the folder sqznet/serve/web"):
        web_server.find_site(root / "bundle", root / "bundle")
    (tmp_path / "index.html").touch()
    with pytest.raises(InputError, match=r"lacks onnxruntime-web, @litertjs/core, .*; run npm ci in "):
        web_server.find_site(root / "bundle", tmp_path)


def test_the_newest_bundle_is_the_default(tmp_path):
    with pytest.raises(InputError, match="no bundle with a manifest.json in"):
        web_server.newest(tmp_path)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "c").mkdir()
    os.utime(tmp_path / "b" / "manifest.json", (1, 1))
    assert web_server.newest(tmp_path) == tmp_path / "a"


def test_the_command_prints_an_address_that_answers(root):
    flags = [f"--model={root / 'bundle'}", f"--web={root / 'web'}", "--port=0"]
    command = [sys.executable, "-m", "sqznet.serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())
            assert found and ask(int(found[1]), "/model/manifest.json")[2] == b"{}"
        finally:
            process.terminate()
