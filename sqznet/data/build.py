"""Builds a set: maps `shards.write` over processes or with Beam, resumably, then writes the manifest.

A shard that stands is finished. While a build is under way, `.build/` holds its options and a description of each
finished shard; manifest.json, written last, marks the set as complete. One process at a time builds in a folder; a
second one waits, and finds the set finished.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import hashlib
import io
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, files, locks, startup, typed
from sqznet.core.errors import CheckFailed, InputError, TryAgain, checking
from sqznet.data import beam, shards, sources, update
from sqznet.data import manifest as manifests
from sqznet.data.sources import Source


def build(
    source: Source,
    out: Path,
    *,
    spec: str,
    seed: int,
    options: shards.Options,
    listing_options: dict[str, Any],
    shard_records: int | None = None,
    workers: int = 1,
    beam_flags: str | None = None,
    replace: bool = False,
) -> manifests.Manifest:
    """Builds, or finishes building, the set of `source` in `out`. The result depends on neither workers nor kills.

    Waits while another process builds there.

    Args:
        spec: the source as the user named it, for the manifest.
        listing_options: what else decided the source's listing, for the manifest.
        workers: processes of this machine.
        beam_flags: write the shards with Apache Beam instead, with these flags of its own.
        replace: build anew where `out` holds a finished set of other photographs, or with other options.

    Raises:
        InputError: `out` holds another set, or something else; or a class lost all its photographs.
    """
    _require_text(out)
    identity = {
        "source": sources.published(spec),
        "seed": seed,
        "options": {
            **listing_options,
            "max_pixels": options.max_pixels,
            "short_side": options.short_side,
            "decoded": options.decoded,
            "shard_records": shard_records,
        },
        "listing_sha256": _listing_sha256(source),
    }
    if not _already_built(out, identity, source, replace):  # asked without the lock first: a set may be read-only
        with locks.locked(out / manifests.LOCK, f"builds {out}"):
            if not _already_built(out, identity, source, replace):
                tag = ""
                if (out / manifests.FILE).is_file():
                    tag = update.prepare(out, identity, source)
                else:
                    _claim(out, identity, replace)
                plan = shards.plan(source, seed=seed, shard_records=shard_records, tag=tag)
                described = _described(source, plan, out, options, workers, beam_flags)
                _finish(out, source, spec, identity, described)
    manifest = manifests.load(out)
    if options.strict and manifest.content["rejected"]:
        raise InputError(f"{out} was built without {manifest.content['rejected']} files: see {out / 'rejects.csv'}")
    return manifest


def _described(
    source: Source,
    plan: list[shards.Shard],
    out: Path,
    options: shards.Options,
    workers: int,
    beam_flags: str | None,
) -> list[dict[str, Any]]:
    """What `shards.write` says of each shard of the plan; those that do not stand yet are written."""
    done = {shard.file for shard in plan if (out / shard.file).is_file()}
    missing = [shard for shard in plan if shard.file not in done]
    if missing and done:
        console.say(f"{len(done)} of {len(plan)} shards stand already; writing the others")
    # Without the listing, which for ImageNet is 80 MB: reading needs only the shard's own photographs.
    reader = dataclasses.replace(source, splits={})  # type: ignore[type-var]
    if beam_flags is None:
        _write_missing(reader, missing, plan, out, options, workers)
    elif missing:
        console.say(f"writing {len(missing)} shards to {out} with Apache Beam")
        beam.write(reader, missing, out, options, beam_flags)
    return [typed.read_json(shards.description_path(out, shard)) for shard in plan]


def _require_text(out: Path) -> None:
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError:
        raise InputError(f"--out={out}: its path is not UTF-8, and TensorFlow takes no other; name another") from None


def _listing_sha256(source: Source) -> str:
    digest = hashlib.sha256()
    for split, photos in sorted(source.splits.items()):
        for photo in photos:
            digest.update(f"{split}\0{photo.key}\0{photo.label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _already_built(out: Path, identity: dict[str, Any], source: Source, replace: bool) -> bool:
    path = out / manifests.FILE
    if not path.is_file():
        return False
    content = manifests.load(out).content
    if replace and any(content.get(name) != wanted for name, wanted in identity.items()):
        return False
    _require_same(out, content, identity, source)
    left = update.unlisted(out, {shard["file"] for shard in content["shards"]}) if replace else []
    if left or (out / ".build").is_dir():  # a kill came between the manifest and its removal
        with locks.locked(out / manifests.LOCK, f"builds {out}"):
            for each in (*left, out / ".build"):
                files.remove(each)
    if replace:
        removed = f"; {console.counted(len(left), 'shard')} of the set before removed" if left else ""
        console.say(f"{out} has the same photographs, by name: nothing to update{removed}")
    return True


def _require_same(out: Path, found: dict[str, Any], identity: dict[str, Any], source: Source | None = None) -> None:
    """Raises where a set, or an unfinished one (without a `source` to compare it with), was built otherwise."""
    for name, wanted in identity.items():
        there = found.get(name)
        if name == "source" and isinstance(there, str):
            there = sources.published(there)  # of a set that an earlier version built
        if there != wanted:
            what = f"{name} {found.get(name)!r}, not {wanted!r}"
            if name == "listing_sha256":
                what = update.difference(found, source) if source else "other photographs"
            remedy = f"choose another --out, or remove {out}"
            if name != "source":
                remedy = "choose another --out, or add --update to build it anew in the same folder"
            raise InputError(f"{out} was built from {what}; {remedy}")


def _claim(out: Path, identity: dict[str, Any], replace: bool) -> None:
    """Marks `out` as this build's, or finds that it is; `replace` begins an unfinished build of the source anew."""
    path = out / ".build" / "build.json"
    found = typed.read_json(path) if path.is_file() else None
    if found is not None and replace and found != identity and found.get("source") == identity["source"]:
        console.say(f"{out} holds an unfinished build of other photographs or options; building it anew")
        for shard in update.unlisted(out, set()):
            files.remove(shard)
        files.remove(out / ".build")
        files.write_json(path, identity)
    elif found is not None:
        _require_same(out, found, identity)
    elif any(each.name not in (".build", manifests.LOCK) for each in out.iterdir()):
        raise InputError(f"{out} is not empty and not an unfinished build; choose another --out")
    else:
        files.write_json(path, identity)
    files.clear(out)
    files.clear(out / ".build")


def _start_worker() -> None:
    """Loads TensorFlow, and ends the worker when its parent is gone: it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    startup.load_tensorflow()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_missing(
    reader: Source,
    missing: list[shards.Shard],
    plan: list[shards.Shard],
    out: Path,
    options: shards.Options,
    workers: int,
) -> None:
    total = sum(len(shard.photos) for shard in plan)
    with console.progress("images/s") as bar:
        task = bar.add_task(f"writing {out}", total=total)
        bar.update(task, completed=total - sum(len(shard.photos) for shard in missing))
        if workers <= 1 or len(missing) == 1:
            for shard in missing:
                shards.write(reader, shard, out, options)
                bar.advance(task, len(shard.photos))
            return
        context = multiprocessing.get_context("spawn")  # forking a process that runs TensorFlow may hang
        with concurrent.futures.ProcessPoolExecutor(
            min(workers, max(1, len(missing))), mp_context=context, initializer=_start_worker
        ) as pool:
            futures = {pool.submit(shards.write, reader, shard, out, options): shard for shard in missing}
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    bar.advance(task, len(futures[future].photos))
            except BrokenProcessPool:
                raise TryAgain(
                    "a worker process was killed, perhaps for want of memory; the finished shards stand: run the "
                    f"same command again, with fewer --workers than {workers} if it was memory"
                ) from None
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _finish(out: Path, source: Source, spec: str, identity: dict[str, Any], described: list[dict[str, Any]]) -> None:
    splits: dict[str, Any] = {}
    sums_of_means: dict[str, np.ndarray] = {}
    colours: Counter[str] = Counter()
    for each in described:
        colours.update(each["colours"])
        split = each["split"]
        counts = splits.setdefault(split, {"records": 0, "bytes": 0, "per_class": [0] * len(source.classes)})
        counts["records"] += each["records"]
        counts["bytes"] += each["bytes"]
        for label, count in each["per_class"].items():
            counts["per_class"][int(label)] += count
        sums_of_means[split] = sums_of_means.get(split, np.zeros(3)) + each["sum_of_means"]
    _require_usable(out, source, splits, described)
    # Of train, which a network trained on the set subtracts; a set for evaluation only has them for the reader.
    of = ["train"] if "train" in splits else list(splits)
    channel_means = sum(sums_of_means[split] for split in of) / sum(splits[split]["records"] for split in of)
    rejects = [(key, each["split"], reason) for each in described for key, reason in each["rejects"]]
    _write_rejects(out / "rejects.csv", rejects)
    files.write_json(
        out / manifests.FILE,
        {
            "format": manifests.FORMAT,
            **identity,
            "classes": source.classes,
            "label_base": 0,
            "channel_means": channel_means.tolist(),
            "splits": splits,
            "shards": [
                {key: each[key] for key in ("file", "split", "records", "bytes", "sha256")} for each in described
            ],
            "rejected": len(rejects),
            "colours": dict(sorted(colours.items())),
            "notes": [sources.without_place(note, spec) for note in source.notes],
        },
    )
    files.remove(out / ".build")


def _require_usable(out: Path, source: Source, splits: dict[str, Any], described: list[dict[str, Any]]) -> None:
    """Refuses a split that lost all its photographs, and a class that lost all that it had in train."""
    lost = [split for split, counts in splits.items() if not counts["records"]]
    listed = {photo.label for photo in source.splits.get("train", [])}
    without = [label for label in sorted(listed) if not splits["train"]["per_class"][label]]
    if not lost and not without:
        return
    split = "train" if without else lost[0]
    reasons = sorted({reason for each in described if each["split"] == split for _, reason in each["rejects"]})
    what = f"class {source.classes[without[0]]!r} has no usable photograph" if without else "no photograph is usable"
    has_set = (out / manifests.FILE).is_file()  # which was to be updated
    if has_set:
        files.remove(out / ".build")
    raise InputError(
        f"{what} in {split}; rejected for: {'; '.join(reasons[:3])}. Mend the files, "
        + (
            "and run the same command again: the old set stays until then"
            if has_set
            else f"remove {out} and build again"
        )
    )


def _write_rejects(path: Path, rejects: Iterable[tuple[str, str, str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "split", "reason"])
    writer.writerows([console.printable(key, keep=""), split, reason] for key, split, reason in sorted(rejects))
    files.write_text(path, text.getvalue())


def verify(folder: Path) -> manifests.Manifest:
    """Re-reads a built set against its manifest: every byte, every record.

    Raises:
        CheckFailed: names the first shard, and where possible the record, that is not as the manifest says.
        InputError: there is no set to check.
    """
    manifest = manifests.load(folder, whole=False)
    with checking(), console.progress("records/s") as bar:
        manifests.load(folder)  # every shard is there
        task = bar.add_task(f"verifying {folder}", total=sum(shard.records for shard in manifest.shards))
        for shard in manifest.shards:
            size = shard.path.stat().st_size
            if size != shard.bytes:
                raise CheckFailed(f"{shard.path} has {size} bytes; the manifest says {shard.bytes}")
            records = shards.check(shard.path, len(manifest.classes))
            if records != shard.records:
                raise CheckFailed(f"{shard.path} has {records} records; the manifest says {shard.records}")
            digest = files.sha256_of(shard.path)
            if digest != shard.sha256:
                raise CheckFailed(f"{shard.path} has sha256 {digest}; the manifest says {shard.sha256}")
            bar.advance(task, records)
    return manifest
