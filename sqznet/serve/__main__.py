"""An exported bundle in the browser: its files on your photographs or camera, and its self-test.

  (cd sqznet/serve/web && npm ci)
      once: LiteRT.js and ONNX Runtime Web, which run the files
  python -m sqznet.serve
      the newest bundle of export/artifacts; open the printed address
  python -m sqznet.serve --model=export/artifacts/NAME --port=8000

Only programs on this machine can reach the page (127.0.0.1), and the page reaches nothing else: photographs stay in the
browser. Ctrl+C ends it.
"""

from __future__ import annotations

import argparse
import base64
import errno
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqznet.core import cli, console
from sqznet.core.errors import InputError, TryAgain
from sqznet.core.files import TEMPORARY_PREFIX

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
ARTIFACTS = Path("export/artifacts")
MANIFEST = "manifest.json"
WEB = Path(__file__).resolve().parent / "web"
PAGE = "index.html"
PACKAGES = ("onnxruntime-web", "@litertjs/core", "@litertjs/wasm-utils")
# Spelt out: what the machine has registered for a suffix differs, and browsers run no module of the wrong type.
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
IDLE_SECONDS = 60  # a connection that is kept open and asks nothing for so long is closed


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.serve", __doc__)
    parser.add_argument("--model", type=Path, help="a bundle's folder; default the newest in export/artifacts")
    parser.add_argument("--port", type=cli.within(0, 65535, int), default=8000, help="0 takes any free one")
    parser.add_argument("--web", type=Path, help="folder of the page; default sqznet/serve/web of the checkout")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    site = find_site(args.model or newest(), args.web or WEB)
    with open_server(site, args.port) as server:
        console.say(f"serving {site.bundle}; Ctrl+C ends it")
        console.result(f"http://{ADDRESS}:{server.server_port}/")
        console.rest()
        server.serve_forever()
    return 0


@dataclass(frozen=True)
class Site:
    """The folders that are served, resolved, and the policy that holds for all of it."""

    web: Path
    packages: Path
    bundle: Path
    policy: str  # Content-Security-Policy

    def find(self, target: str) -> Path | None:
        """The file that a request's target asks for; None where it is no file of the site."""
        try:
            names = unquote(urlsplit(target).path).split("/")[1:] or [""]
        except ValueError:  # no address at all
            return None
        root = self.web
        if names[0] in ("model", "node_modules"):
            root = self.bundle if names[0] == "model" else self.packages
            names = names[1:]
        elif names == [""]:
            names = [PAGE]
        # Hidden files and what leads out of the folder both start with a dot.
        if not names or any(not name or name.startswith(".") or set(name) & set("\\\0:") for name in names):
            return None
        try:
            path = root.joinpath(*names).resolve(strict=True)
            inside = path.relative_to(root)  # after resolving: a link may lead anywhere
        except (OSError, ValueError):
            return None
        return path if path.is_file() and not any(name.startswith(".") for name in inside.parts) else None


def newest(artifacts: Path = ARTIFACTS) -> Path:
    """The bundle that was written last.

    Raises:
        InputError: there is none.
    """
    finished = (path for path in artifacts.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(TEMPORARY_PREFIX))
    found = sorted(finished, key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            f"no bundle with a {MANIFEST} in {artifacts}/: write one first (python -m sqznet.export), or name its "
            "folder with --model"
        )
    return found[-1].parent


def find_site(bundle: Path, web: Path) -> Site:
    """The site of a bundle.

    Args:
        bundle: folder that `python -m sqznet.export` has written.
        web: folder of the page.

    Raises:
        InputError: a folder is missing, or something in it is.
    """
    if not bundle.is_dir():
        raise InputError(f"--model={bundle} is not a folder; it must be a bundle's, such as {ARTIFACTS / 'NAME'}")
    if not (bundle / MANIFEST).is_file():
        raise InputError(f"{bundle} has no {MANIFEST}; --model must be a folder written by python -m sqznet.export")
    page = web / PAGE
    if not page.is_file():
        raise InputError(f"{web} has no {PAGE}; --web must name the folder sqznet/serve/web of sqznet's repository")
    packages = web / "node_modules"
    missing = [name for name in PACKAGES if not (packages / name).is_dir()]
    if missing:
        raise InputError(f"{packages} lacks {', '.join(missing)}; run npm ci in {web}")
    return Site(web.resolve(), packages.resolve(), bundle.resolve(), _policy(page.read_text()))


def _policy(page: str) -> str:
    """Everything from this server alone; the page's one inline script, its import map, by its hash."""
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
    """A server that listens on 127.0.0.1; `serve_forever` starts it.

    Args:
        port: 0 takes any free one.

    Raises:
        InputError: the port cannot be had.
    """

    class SiteHandler(Handler):
        pass

    SiteHandler.site = site
    try:
        return ThreadingHTTPServer((ADDRESS, port), SiteHandler)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
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
        if not self._asked_by_name():
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

    def _asked_by_name(self) -> bool:
        """Whether the browser was told to ask this server. A foreign page whose name is made to point at 127.0.0.1
        ("DNS rebinding") still sends its own name."""
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
        """Nothing: the page itself shows what it could not load."""


if __name__ == "__main__":
    cli.run(main)
