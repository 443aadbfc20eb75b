"""Folders of shards that TensorFlow reaches by itself: gs://bucket/folder, and s3:// or hdfs:// with its plugins."""

from __future__ import annotations

import io
import posixpath
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from sqznet.errors import InputError


def folder(text: str) -> Path:
    """The folder that a flag or a config names: a local path, or a `Remote`, which has the part of Path that we use."""
    return cast(Path, Remote(text)) if "://" in text else Path(text)


def published(path: Path | str) -> str:
    """How files that are handed on name a folder or a file: never by where it lies on this machine.

    A relative path is as it was typed, since it says what the project calls it; of any other, the last part is left.
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
        return posixpath.basename(self.url)

    @property
    def parent(self) -> Remote:
        return Remote(posixpath.dirname(self.url))

    def resolve(self) -> Remote:
        scheme, _, rest = self.url.partition("://")
        return Remote(f"{scheme}://{posixpath.normpath(rest)}")

    def is_dir(self) -> bool:
        return bool(self._files("isdir"))

    def is_file(self) -> bool:
        return bool(self._files("exists")) and not self.is_dir()

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=self._files("stat").length)

    def read_text(self) -> str:
        return self.open("rb").read().decode()

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return io.BytesIO(self._files("GFile", "rb").read())

    def _files(self, function: str, *args: Any) -> Any:
        import tensorflow as tf

        known = [scheme for scheme in tf.io.gfile.get_registered_schemes() if scheme]
        if self.url.partition("://")[0] not in known:
            raise InputError(
                f"{self.url} cannot be read: TensorFlow knows {', '.join(f'{scheme}://' for scheme in known)} here, "
                "and others with plugins such as tensorflow-io"
            )
        try:
            return getattr(tf.io.gfile, function)(self.url, *args)
        except tf.errors.OpError as error:
            raise InputError(f"{self.url} cannot be read: {str(error).splitlines()[0]}") from None
