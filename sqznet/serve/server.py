"""Provides a local HTTP server for the web page, its JavaScript packages and the files of one bundle."""

from __future__ import annotations

import base64
import errno
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqznet.core.errors import InputError, TryAgain
from sqznet.core.files import TEMPORARY_PREFIX
from sqznet.network.exported import BUNDLE_MANIFEST

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
ARTIFACTS = Path("export/artifacts")
WEB = Path(__file__).resolve().parent / "web"
PAGE = "index.html"
PACKAGES = ("onnxruntime-web", "@litertjs/core", "@litertjs/wasm-utils")
# The `mimetypes` module is not used: its table depends on the machine, and browsers run no module of a wrong type.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".tflite": "application/octet-stream",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
}
IDLE_SECONDS = 60  # an open connection without a request for this long is closed


@dataclass(frozen=True)
class Site:
    """The served folders, resolved, and the policy of all answers."""

    web: Path
    packages: Path
    bundle: Path
    policy: str  # Content-Security-Policy

    def find(self, target: str) -> Path | None:
        """Returns the file of a request's target, or None if the site has no such file."""
        try:
            names = unquote(urlsplit(target).path).split("/")[1:] or [""]
        except ValueError:  # not a URL
            return None
        root = self.web
        if names[0] in ("model", "node_modules"):
            root = self.bundle if names[0] == "model" else self.packages
            names = names[1:]
        elif names == [""]:
            names = [PAGE]
        # Hidden files and `..` both start with a dot.
        if not names or any(not name or name.startswith(".") or set(name) & set("\\\0:") for name in names):
            return None
        try:
            path = root.joinpath(*names).resolve(strict=True)
            inside = path.relative_to(root)  # after resolving, since a link may point outside
        except (OSError, ValueError):
            return None
        return path if path.is_file() and not any(name.startswith(".") for name in inside.parts) else None


def newest(artifacts: Path = ARTIFACTS) -> Path:
    """Finds the newest bundle.

    Raises:
        InputError: there is no bundle.
    """
    manifests = artifacts.glob(f"*/{BUNDLE_MANIFEST}")
    finished = [path for path in manifests if not path.parent.name.startswith(TEMPORARY_PREFIX)]
    if not finished:
        raise InputError(
            f"no bundle with a {BUNDLE_MANIFEST} in {artifacts}/: write one first (python -m sqznet.export), or name "
            "its folder with --model"
        )
    return max(finished, key=lambda path: path.stat().st_mtime).parent


def find_site(bundle: Path, web: Path) -> Site:
    """Returns the site of a bundle.

    Args:
        bundle: folder written by `python -m sqznet.export`.
        web: folder of the page.

    Raises:
        InputError: a folder or a part of it is missing.
    """
    if not bundle.is_dir():
        raise InputError(
            f"--model={bundle} is not a folder; it must be the folder of a bundle, such as {ARTIFACTS / 'NAME'}"
        )
    if not (bundle / BUNDLE_MANIFEST).is_file():
        raise InputError(
            f"{bundle} has no {BUNDLE_MANIFEST}; --model must be a folder written by python -m sqznet.export"
        )
    page = web / PAGE
    if not page.is_file():
        raise InputError(f"{web} has no {PAGE}; --web must name the folder sqznet/serve/web of sqznet, or a copy")
    packages = web / "node_modules"
    missing = [name for name in PACKAGES if not (packages / name).is_dir()]
    if missing:
        raise InputError(
            f"{packages} lacks {', '.join(missing)}; run npm ci in {web}, or in a copy of this folder that --web names"
        )
    return Site(web.resolve(), packages.resolve(), bundle.resolve(), _policy(page.read_text()))


def _policy(page: str) -> str:
    """Allows content of this server only, and the page's one inline script, its import map, by its hash."""
    maps = re.findall(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in maps)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'wasm-unsafe-eval' {hashes}".rstrip(),
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def open_server(site: Site, port: int) -> ThreadingHTTPServer:
    """Opens a server that listens on 127.0.0.1. `serve_forever` starts it.

    Args:
        port: 0 means any free port.

    Raises:
        InputError: the port cannot be used.
    """

    try:
        return ThreadingHTTPServer((ADDRESS, port), type("SiteHandler", (Handler,), {"site": site}))
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
        kind = TryAgain if error.errno == errno.EADDRINUSE else InputError
        raise kind(f"--port={port} {reason}; give another, or --port=0 for any free one") from None


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with files of `site`."""

    site: Site
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        if not self._has_our_host():
            self.send_error(HTTPStatus.FORBIDDEN, f"ask for {ADDRESS} or localhost")
            return
        path = self.site.find(self.path)
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            file = path.open("rb")
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            content = file.read()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(path.suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def _has_our_host(self) -> bool:
        """Checks that the Host header names this server. With DNS rebinding it names a foreign page's own host.

        A foreign page that resolves to 127.0.0.1 (DNS rebinding) fails.
        """
        host, _, port = (self.headers.get("Host") or "").partition(":")
        return host.lower() in HOSTS and port in ("", str(self.server.server_port))  # type: ignore[attr-defined]

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", self.site.policy)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def version_string(self) -> str:
        return "sqznet"

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: the page itself shows errors."""
