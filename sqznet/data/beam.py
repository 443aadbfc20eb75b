"""Builds shards with Apache Beam. Each shard is one task of the cluster."""

from __future__ import annotations

import functools
import logging
import shlex
from pathlib import Path

from sqznet.core.errors import InputError
from sqznet.data import build_pool
from sqznet.data.shard_plan import BuildOptions, PlannedShard
from sqznet.data.sources import Source


def write(reader: Source, missing: list[PlannedShard], out: Path, options: BuildOptions, flags: str) -> None:
    """Writes shards with the runner that Beam's own flags name. Without flags, writes the shards in this process.

    Workers must see the source and `out` under the same paths as this process. If a worker is lost, another worker
    writes the shard again. Writes are atomic.

    Raises:
        InputError: Beam is not installed, rejects the flags, or could not write a shard.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("--runner=beam needs Apache Beam: pip install 'sqznet[beam]'") from None
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    try:
        given = shlex.split(flags)
    except ValueError as error:
        raise InputError(f"--beam_options={flags}: {error}") from None
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(given))
        # Without Reshuffle, Beam fuses listing and writing, and one worker writes all shards.
        _ = (
            pipeline
            | "shards to write" >> beam.Create(missing)
            | "shuffle" >> beam.Reshuffle()
            | "write" >> beam.Map(functools.partial(build_pool.write_shard, reader, out.absolute(), options))
        )
        pipeline.run().wait_until_finish()
    except SystemExit:  # Beam's argparse has printed the reason
        raise InputError(f"Apache Beam does not take --beam_options={flags!r}; see above") from None
    except Exception as error:  # a worker's error, wrapped by the runner
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise InputError(str(cause).split(" [while running")[0]) from None
        raise InputError(
            f"Beam could not write all shards ({type(error).__name__}: {str(error).splitlines()[0]}); the "
            "finished shards stay: run the same command again"
        ) from error
