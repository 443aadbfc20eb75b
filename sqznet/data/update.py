"""Building a set anew in its own folder, for photographs that have been added or removed since.

The new shards have names of their own, so that the old set stays whole beside them until the new manifest takes its
place in one step. A training that has begun goes on reading the old shards: they stay until the next update.
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
    """What the names of a set's shards have between split and number, unless it is the first set in its folder."""
    return "-" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def difference(content: dict[str, Any], source: Source) -> str:
    """What has become of the photographs since a manifest of `content` was written, in words."""
    before = sum(split["records"] for split in content["splits"].values()) + content["rejected"]
    now = sum(map(len, source.splits.values()))
    if now == before:
        return f"other photographs: as many ({before:,}), with other names or in other places"
    changed = console.counted(abs(now - before), "photograph")
    return f"other photographs: {before:,}, and now there are {now:,} ({changed} {'more' if now > before else 'fewer'})"


def prepare(out: Path, identity: dict[str, Any], source: Source) -> str:
    """Makes a finished set's folder ready for another one, and returns the tag of its shards.

    Removes shards that neither the set nor an unfinished update to the same photographs has. To be called under the
    folder's lock.

    Raises:
        InputError: the set is of another source.
    """
    manifest = manifests.load(out)
    if sources.published(manifest.content["source"]) != identity["source"]:
        raise InputError(
            f"{out} was built from {manifest.content['source']!r}, not {identity['source']!r}: --update takes "
            "photographs from the same place; choose another --out"
        )
    console.say(f"{out} was built from {difference(manifest.content, source)}; building it anew")
    claim = out / ".build" / "build.json"
    goes_on = claim.is_file() and json.loads(claim.read_text()) == json.loads(json.dumps(identity))
    if not goes_on:
        files.remove(out / ".build")
        files.write_json(claim, identity)
    kept = {shard.path.name for shard in manifest.shards}
    for path in unlisted(out, kept):
        if not (goes_on and tag(identity) in path.name):
            files.remove(path)
    return tag(identity)


def unlisted(out: Path, listed: set[str]) -> list[Path]:
    """Shards that a manifest which lists the others does not have: those of the set before, or of an ended update."""
    return [path for path in sorted(out.iterdir()) if _SHARD.fullmatch(path.name) and path.name not in listed]
