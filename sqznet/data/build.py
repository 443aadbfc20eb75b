"""Builds a set. Lists the source, writes the shards in processes or with Beam, then writes the manifest.

While a build is under way, `.build/` contains its options and a description of each finished shard. A build that was
stopped continues with the missing shards. manifest.json is written last and marks the set as complete. Only one process
at a time builds in a folder. A second process waits until the set is finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sqznet.core import console, files, locks, startup, typed
from sqznet.core.errors import CheckFailed, InputError, checking
from sqznet.data import beam, build_pool, exclusion, shards, sources, summary, update
from sqznet.data import manifest as manifests
from sqznet.data.shard_plan import BuildOptions, PlannedShard, plan_shards
from sqznet.data.sources import Source


def build(
    spec: str,
    out: Path,
    *,
    seed: int = 0,
    options: BuildOptions | None = None,
    holdout_per_class: int | None = None,
    blacklist: bool = False,
    label_offset: int | None = None,
    test_files: str | None = None,
    exclude: Path | None = None,
    shard_records: int | None = None,
    workers: int = 1,
    beam_flags: str | None = None,
    replace: bool = False,
) -> manifests.Manifest:
    """Builds the set of the source `spec` in `out`, or finishes building it.

    Waits while another process builds in `out`. The result depends neither on the number of workers nor on
    interruptions.

    Args:
        seed, holdout_per_class, blacklist, label_offset, test_files: see `sources.open_source`.
        exclude: a CSV file that marks photographs to leave out; see `exclusion`.
        shard_records: see `shard_plan.plan_shards`.
        workers: processes on this machine.
        beam_flags: flags for Apache Beam, which then writes the shards. None means that Beam is not used.
        replace: whether to rebuild a finished set if its photographs or the options differ.

    Raises:
        InputError: `out` contains another set or other files, or no photograph of a class is usable.
    """
    options = options or BuildOptions()
    listing = {
        "holdout_per_class": holdout_per_class,
        "blacklist": blacklist,
        "label_offset": label_offset,
        "test_files": test_files,
    }
    with console.doing(f"listing {spec}"):
        source = sources.open_source(spec, seed=seed, **listing)  # type: ignore[arg-type]
    excluded = {}  # no entry without `exclude`, as in the manifests of earlier versions
    if exclude is not None:
        names = exclusion.read(exclude)
        source = exclusion.without(source, names, exclude)
        source.notes.append(f"{console.counted(len(names), 'photograph')} left out, as {exclude.name} says")
        excluded = {"excluded": {"photographs": len(names), "sha256": exclusion.sha256(names)}}
    _require_text(out)
    identity = {
        "source": sources.published(spec),
        "seed": seed,
        "options": {
            **listing,
            "label_offset": label_offset or 0,  # 0 instead of None, as in the manifests of earlier versions
            "max_pixels": options.max_pixels,
            "short_side": options.short_side,
            "decoded": options.decoded,
            "shard_records": shard_records,
            **excluded,
        },
        "listing_sha256": _listing_sha256(source),
    }
    if not _already_built(out, identity, source, replace):  # without the lock first: a set may be read-only
        with locks.locked(out / manifests.LOCK, f"builds {out}"):
            if not _already_built(out, identity, source, replace):
                tag = ""
                if (out / manifests.FILE).is_file():
                    tag = update.prepare(out, identity, source)
                else:
                    _claim(out, identity, replace)
                plan = plan_shards(source, seed=seed, shard_records=shard_records, tag=tag)
                described = _described(source, plan, out, options, workers, beam_flags)
                _finish(out, source, spec, identity, described)
    manifest = manifests.load(out)
    if options.strict and manifest.content["rejected"]:
        raise InputError(f"{out} was built without {manifest.content['rejected']} files: see {out / 'rejects.csv'}")
    return manifest


def build_demo(out: Path) -> None:
    """Builds the synthetic demo set as `python -m sqznet.data --source=synthetic` does, and prints its counts."""
    summary.print_counts(build("synthetic", out, workers=startup.cores()))


def _described(
    source: Source, plan: list[PlannedShard], out: Path, options: BuildOptions, workers: int, beam_flags: str | None
) -> list[dict[str, Any]]:
    """Writes the missing shards of the plan. Returns the descriptions of all shards."""
    missing = [shard for shard in plan if not (out / shard.file).is_file()]
    if missing and len(missing) < len(plan):
        console.say(f"{len(plan) - len(missing)} of {len(plan)} shards are finished; writing the others")
    # The listing is left out: it has 80 MB for ImageNet, and reading needs the photographs of one shard only.
    reader = dataclasses.replace(source, splits={})
    if beam_flags is None:
        total, left = (sum(len(shard.photos) for shard in some) for some in (plan, missing))
        with console.progress("images/s") as bar:
            task = bar.add_task(f"writing {out}", total=total, completed=total - left)
            build_pool.write(
                reader, missing, out, options, workers, done=lambda shard: bar.advance(task, len(shard.photos))
            )
    elif missing:
        console.say(f"writing {len(missing)} shards to {out} with Apache Beam")
        beam.write(reader, missing, out, options, beam_flags)
    return [typed.read_json(shard.description_path(out)) for shard in plan]


def _require_text(out: Path) -> None:
    try:
        str(out.absolute()).encode()
    except UnicodeEncodeError:
        raise InputError(f"--out={out}: TensorFlow requires a path in UTF-8, and this is not; name another") from None


def _listing_sha256(source: Source) -> str:
    digest = hashlib.sha256()
    for split, photos in sorted(source.splits.items()):
        for photo in photos:
            digest.update(f"{split}\0{photo.key}\0{photo.label}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _already_built(out: Path, identity: dict[str, Any], source: Source, replace: bool) -> bool:
    if not (out / manifests.FILE).is_file():
        return False
    content = manifests.load(out).content
    if replace and any(content.get(name) != wanted for name, wanted in identity.items()):
        return False
    _require_same(out, content, identity, source)
    left = update.unlisted(out, {shard["file"] for shard in content["shards"]}) if replace else []
    if left or (out / ".build").is_dir():  # the build was killed after it had written the manifest
        with locks.locked(out / manifests.LOCK, f"builds {out}"):
            for each in (*left, out / ".build"):
                files.remove(each)
    if replace:
        removed = f"; {console.counted(len(left), 'shard')} of the previous set removed" if left else ""
        console.say(f"{out} has the same photographs, by name: nothing to update{removed}")
    return True


def _require_same(out: Path, found: dict[str, Any], identity: dict[str, Any], source: Source | None = None) -> None:
    """Raises InputError if the set in `out` was built differently. The source of an unfinished set is not compared."""
    for name, wanted in identity.items():
        there = found.get(name)
        if name == "source" and isinstance(there, str):
            there = sources.published(there)  # earlier versions stored the full path
        if there != wanted:
            what = f"{name} {found.get(name)!r}, not {wanted!r}"
            if name == "listing_sha256":
                what = update.difference(found, source) if source else "other photographs"
            remedy = f"choose another --out, or remove {out}"
            if name != "source":
                remedy = "choose another --out, or add --update to rebuild it in the same folder"
            raise InputError(f"{out} was built from {what}; {remedy}")


def _claim(out: Path, identity: dict[str, Any], replace: bool) -> None:
    """Records this build in `out`, or checks that it is recorded. With `replace`, restarts another unfinished build."""
    path = out / ".build" / "build.json"
    found = typed.read_json(path) if path.is_file() else None
    restart = found is not None and replace and found != identity and found.get("source") == identity["source"]
    if restart:
        console.say(f"{out} holds an unfinished build of other photographs or options; rebuilding it")
        for each in (*update.unlisted(out, set()), out / ".build"):
            files.remove(each)
    elif found is not None:
        _require_same(out, found, identity)
    elif any(each.name not in (".build", manifests.LOCK, *manifests.REPORTS) for each in out.iterdir()):
        raise InputError(f"{out} is not empty and not an unfinished build; choose another --out")
    if restart or found is None:
        files.write_json(path, identity)
    files.remove_temporaries(out)
    files.remove_temporaries(out / ".build")


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
    # These are the means of train, which a network subtracts. Without train they are only information.
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
            "notes": [sources.with_relative_paths(note, spec) for note in source.notes] + _leaks(described),
        },
    )
    files.remove(out / ".build")


def _leaks(described: list[dict[str, Any]]) -> list[str]:
    """Returns a note if photographs of train are also in val or test, with the same bytes. The note is one line."""
    of: dict[str, set[str]] = {}
    for each in described:
        # A shard that an earlier version has finished has no digests.
        of.setdefault(each["split"], set()).update(each.get("digests", ()))
    both = {split: len(of["train"] & of[split]) for split in ("val", "test") if "train" in of and split in of} | {
        "val and test": len(of["val"] & of["test"]) if {"val", "test"} <= set(of) else 0
    }
    shared = [
        f"{console.counted(count, 'photograph')} of {'train' if split in of else 'val'} "
        f"{'is' if count == 1 else 'are'} in {split if split in of else 'test'} too"
        for split, count in both.items()
        if count
    ]
    if not shared:
        return []
    return [f"{', '.join(shared)}, with the same bytes: python -m sqznet.data --report lists them"]


def _require_usable(out: Path, source: Source, splits: dict[str, Any], described: list[dict[str, Any]]) -> None:
    """Raises InputError if a split, or a class of train, has no usable photograph."""
    lost = [split for split, counts in splits.items() if not counts["records"]]
    listed = {photo.label for photo in source.splits.get("train", [])}
    without = [label for label in sorted(listed) if not splits["train"]["per_class"][label]]
    if not lost and not without:
        return
    split = "train" if without else lost[0]
    reasons = sorted({reason for each in described if each["split"] == split for _, reason in each["rejects"]})
    what = f"class {source.classes[without[0]]!r} has no usable photograph" if without else "no photograph is usable"
    remedy = f"remove {out} and build again"
    if (out / manifests.FILE).is_file():  # an update
        files.remove(out / ".build")
        remedy = "and run the same command again: the old set stays until then"
    raise InputError(f"{what} in {split}; rejected for: {'; '.join(reasons[:3])}. Repair the files, {remedy}")


def _write_rejects(path: Path, rejects: Iterable[tuple[str, str, str]]) -> None:
    rows = [[console.printable(key, keep=""), split, reason] for key, split, reason in sorted(rejects)]
    files.write_csv(path, ["file", "split", "reason"], rows)


def verify(folder: Path) -> manifests.Manifest:
    """Reads every byte and every record of a built set, and compares them with its manifest.

    Raises:
        CheckFailed: the set differs from its manifest. The error names the first wrong shard, and if possible the
            record.
        InputError: there is no set to verify.
    """
    manifest = manifests.load(folder, whole=False)
    with checking(), console.progress("records/s") as bar:
        manifests.load(folder)  # every shard exists
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
