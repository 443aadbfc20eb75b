"""Decode photographs on other machines with TensorFlow's data service: one dispatcher, any number of data workers.

  python -m sqznet.data.service --listen=10.0.0.1:5050
      starts the dispatcher, which distributes the work
  python -m sqznet.data.service --dispatcher=10.0.0.1:5050 --listen=10.0.0.2:5051
      starts a data worker; more can be added while training runs
  python -m sqznet.train --data_service=grpc://10.0.0.1:5050 --data=data/imagenet
      trains without decoding on this machine

Data workers read the shards under the same path as the training. TensorFlow's servers accept connections from any
address, without authentication. Run these servers only in a network that other people's machines cannot reach.
"""

from __future__ import annotations

import argparse
import socket
import time

from sqznet.core import cli, console, startup
from sqznet.core.errors import InputError, TryAgain

TIMEOUT = 60  # seconds to wait for a dispatcher to start


def make_parser() -> argparse.ArgumentParser:
    parser = cli.parser("sqznet.data.service", __doc__)
    parser.add_argument(
        "--listen",
        default="127.0.0.1:0",
        help="host:port of this process for other processes; port 0 means a free port",
    )
    parser.add_argument("--dispatcher", help="host:port of the dispatcher; makes this process a data worker")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    host, port = address(args.listen, "--listen")
    startup.load_tensorflow()
    from tensorflow.data.experimental import service

    if args.dispatcher is None:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
        console.say(f"dispatcher: --data_service=grpc://{host}:{dispatcher.target.rpartition(':')[2]}")
        console.stop_heartbeat()
        dispatcher.join()
        return 0
    await_dispatcher(args.dispatcher)
    config = service.WorkerConfig(
        dispatcher_address=args.dispatcher, worker_address=f"{host}:{port or '%port%'}", port=port
    )
    worker = service.WorkerServer(config)
    console.say(f"data worker of {args.dispatcher}")
    console.stop_heartbeat()
    worker.join()
    return 0


def address(text: str, flag: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{flag}={text} is not host:port")
    return host, int(port)


def await_dispatcher(text: str, flag: str = "--dispatcher") -> None:
    """Waits until a server listens at this address.

    Raises:
        InputError: no server listens at this address within TIMEOUT. TensorFlow would wait without a limit.
    """
    where, deadline = address(text, flag), time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(where, timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TryAgain(
                    f"no dispatcher answers at {flag}={text} ({error.strerror or error}); start one with "
                    "python -m sqznet.data.service --listen=HOST:PORT"
                ) from None
            time.sleep(0.5)


if __name__ == "__main__":
    cli.run(main)
