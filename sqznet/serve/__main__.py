"""Serve a web page that classifies photographs and camera pictures with a bundle, and runs its self-test.

  (cd sqznet/serve/web && npm ci)
      once: installs LiteRT.js and ONNX Runtime Web, which run the files; for an installed sqznet, the second command
      prints the folder
  python -m sqznet.serve
      the newest bundle of export/artifacts; open the printed address
  python -m sqznet.serve --model=export/artifacts/NAME --port=8000

Only programs on this machine can reach the page (127.0.0.1), and the page connects to nothing else: photographs stay in
the browser. Ctrl+C stops the server.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sqznet.core import cli, console
from sqznet.serve import server


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.serve", __doc__)
    parser.add_argument("--model", type=Path, help="folder of a bundle; default: the newest bundle in export/artifacts")
    parser.add_argument("--port", type=cli.within(0, 65535, int), default=8000, help="port; 0 means any free port")
    parser.add_argument("--web", type=Path, help="folder of the page; default: sqznet/serve/web of this installation")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    site = server.find_site(args.model or server.newest(), args.web or server.WEB)
    with server.open_server(site, args.port) as running:
        console.say(f"serving {site.bundle}; Ctrl+C ends it")
        console.result(f"http://{server.ADDRESS}:{running.server_port}/")
        console.stop_heartbeat()
        running.serve_forever()
    return 0


if __name__ == "__main__":
    cli.run(main)
