"""Rebuilds a set in its own folder after photographs were added or removed.

The new shards have other names than the old shards. The old set stays complete until the new manifest replaces the old
manifest in one step. The old shards stay until the next update, so a running training can read them.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from sqznet.core import console, files
from sqznet.core.errors import InputError
from sqznet.data import manifest as manifests
from sqznet.data import sources
from sqznet.data.sources import Source

_SHARD = re.compile(r"(train|val|test)(-[0-9a-f]{8})?-\d{5}-of-\d{5}\.tfrecord")


def tag(identity: dict[str, Any]) -> str:
    """Returns the part of a shard's name between split and number.

    The shards of the first set in a folder have no such part.
    """
    return "-" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def difference(content: dict[str, Any], source: Source) -> str:
    """Describes in words how the photographs have changed since a manifest with this content was written."""
    before = sum(split["records"] for split in content["splits"].values()) + content["rejected"]
    now = sum(map(len, source.splits.values()))
    if now == before:
        return f"other photographs: as many ({before:,}), with other names or in other places"
    changed = console.counted(abs(now - before), "photograph")
    return f"other photographs: {before:,}, and now there are {now:,} ({changed} {'more' if now > before else 'fewer'})"


def prepare(out: Path, identity: dict[str, Any], source: Source) -> str:
    """Prepares the folder of a finished set for its update. Returns the tag of the new shards.

    Removes shards that belong neither to the set nor to an unfinished update with the same photographs. The caller must
    hold the lock of the folder.

    Raises:
        InputError: the set was built from another source.
    """
    manifest = manifests.load(out)
    if sources.published(manifest.content["source"]) != identity["source"]:
        raise InputError(
            f"{out} was built from {manifest.content['source']!r}, not {identity['source']!r}: --update takes "
            "photographs from the same place; choose another --out"
        )
    console.say(f"{out} was built from {difference(manifest.content, source)}; rebuilding it")
    claim = out / ".build" / "build.json"
    resumes = claim.is_file() and json.loads(claim.read_text()) == json.loads(json.dumps(identity))
    if not resumes:
        files.remove(out / ".build")
        files.write_json(claim, identity)
    kept = {shard.path.name for shard in manifest.shards}
    for path in unlisted(out, kept):
        if not (resumes and tag(identity) in path.name):
            files.remove(path)
    return tag(identity)


def unlisted(out: Path, listed: set[str]) -> list[Path]:
    """Lists the shards in a folder that are not in `listed`.

    They belong to an earlier set, or to an update that was stopped.
    """
    return [path for path in sorted(out.iterdir()) if _SHARD.fullmatch(path.name) and path.name not in listed]
