"""Reads folders of shards in TensorFlow's file systems: gs://bucket/folder, and s3:// or hdfs:// with plugins."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from sqznet.core.errors import InputError, TryAgain


def folder(text: str) -> Path:
    """Returns the folder that a flag or a config names: a local path, or a `Remote`, which has some methods of Path."""
    return cast(Path, Remote(text)) if "://" in text else Path(text)


def published(path: Path | str) -> str:
    """Returns the name of a folder or file for published files, which contain no paths of this machine.

    A relative path stays as it was typed. Of any other path, only the last part stays.
    """
    text = str(path)
    if "://" in text:
        return Remote(text).name
    local = Path(text)
    return local.absolute().name if local.is_absolute() or ".." in local.parts or text == "." else local.as_posix()


class Remote:
    """A path in one of TensorFlow's file systems, for reading."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return self.url

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str) -> Remote:
        return Remote(posixpath.join(self.url, name))

    @property
    def name(self) -> str:
        return posixpath.basename(self.url.rstrip("/"))

    @property
    def parent(self) -> Remote:
        return Remote(posixpath.dirname(self.url.rstrip("/")))

    def resolve(self) -> Remote:
        scheme, _, rest = self.url.partition("://")
        return Remote(f"{scheme}://{posixpath.normpath(rest)}")

    def is_dir(self) -> bool:
        found = self._status()
        return found is not None and found.is_directory

    def is_file(self) -> bool:
        found = self._status()
        return found is not None and not found.is_directory

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=self._asked(lambda files: files.stat(self.url)).length)

    def _status(self) -> Any:
        """Returns the file's status, or None if there is no such file. TensorFlow's `isdir` would hide all errors."""
        import tensorflow as tf

        def ask(files: Any) -> Any:
            try:
                return files.stat(self.url)
            except tf.errors.NotFoundError:
                return None

        return self._asked(ask)

    def read_text(self) -> str:
        return self.open("rb").read().decode()

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self._asked(lambda files: files.GFile(self.url, "rb").read()))

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        """Calls `ask` with tf.io.gfile, and returns its result.

        Raises:
            TryAgain: the network or the server does not answer.
            InputError: the path cannot be read for another reason.
        """
        import tensorflow as tf

        known = [scheme for scheme in tf.io.gfile.get_registered_schemes() if scheme]
        if self.url.partition("://")[0] not in known:
            raise InputError(
                f"{self.url} cannot be read: TensorFlow reads {', '.join(f'{scheme}://' for scheme in known)} here, "
                "and others with plugins such as tensorflow-io"
            )
        try:
            return ask(tf.io.gfile)
        except tf.errors.OpError as error:
            passing = tf.errors.UnavailableError | tf.errors.DeadlineExceededError | tf.errors.AbortedError
            kind = TryAgain if isinstance(error, passing) else InputError
            raise kind(f"{self.url} cannot be read: {str(error).splitlines()[0]}") from None
