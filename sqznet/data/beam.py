"""Building shards with Apache Beam: the same writer of one shard, mapped over a cluster."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqznet.core import startup
from sqznet.core.errors import InputError

if TYPE_CHECKING:
    from sqznet.data import shards
    from sqznet.data.sources import Source


def write(reader: Source, missing: list[shards.Shard], out: Path, options: shards.Options, flags: str) -> None:
    """Writes shards with the runner that Beam's own flags name (none: in this process).

    Workers see the source and `out` under the same paths as this process does. A shard that a lost worker was writing
    is written again by another; it appears by rename, so that does no harm.

    Raises:
        InputError: Beam is not installed, does not take the flags, or a shard could not be written.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("--runner=beam needs Apache Beam; in a checkout: pip install -e '.[beam]'") from None
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    try:
        given = shlex.split(flags)
    except ValueError as error:
        raise InputError(f"--beam_options={flags}: {error}") from None
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(given))
        # Reshuffle, or Beam fuses listing and writing, and one worker does it all.
        _ = (
            pipeline
            | "shards to write" >> beam.Create(missing)
            | "shuffle" >> beam.Reshuffle()
            | "write" >> beam.Map(_writer(reader, str(out.absolute()), options))
        )
        pipeline.run().wait_until_finish()
    except SystemExit:  # argparse of Beam, which has said why
        raise InputError(f"Apache Beam does not take --beam_options={flags!r}; see above") from None
    except Exception as error:  # of a worker: it comes as the runner wraps it
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise InputError(str(cause).split(" [while running")[0]) from None
        raise InputError(
            f"Beam could not write all shards ({type(error).__name__}: {str(error).splitlines()[0]}); those that are "
            "finished stand: run the same command again"
        ) from error


def _writer(reader: Source, out: str, options: shards.Options) -> Callable[[shards.Shard], str]:
    def write_one(shard: shards.Shard) -> str:
        from sqznet.data import shards

        startup.load_tensorflow()
        return str(shards.write(reader, shard, Path(out), options)["file"])

    return write_one
