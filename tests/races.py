"""Tests concurrency: starts two commands at once on one folder, repeatedly, and checks the result.

  python -m tests.races --rounds=50
      all cases, as two processes and as process 1 of two PID namespaces: a night on two idle cores
  python -m tests.races --rounds=50 --case=builds --case=bad_records --setting=processes
      some of the cases

Cases: two builds of one set (builds) or of two (other_builds), two trainings (trainings), a build and a training on it
(build_and_training), two exports (exports), two compressions (compressions), two searches (searches), two workers
that leave out the same bad record (bad_records), and two processes that write the same file and folder (replaced). The
results must be complete, and each process must exit with 0 or with a message that names the other.

Each process is a fork of this one, which has imported TensorFlow but not used it. Namespaces need root on Linux.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import json
import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqznet.core import cli, console, files, locks, startup

DATA = "sqznet.data.__main__"
SETTINGS = ("processes", "namespaces")
NAMED = re.compile(r"another process [^:]+: python -m (?:sqznet|tests)\S* .*\(process (\d+) on host \S+, since ")
RECIPE = [
    "--recipe=article", "--arch=v1.1", "--image_size=32", "--total_steps=8", "--milestones=4", "--global_batch_size=30",
    "--strategy=one",
]  # fmt: skip
_NEWPID = 0x20000000  # CLONE_NEWPID of sched.h


@dataclass
class Process:
    """A command that is running or has ended."""

    pid: int
    log: Path
    code: int | None = None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> None:
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def can_have_namespaces() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


def start(run: Callable[[], None], log: Path, setting: str = "processes") -> Process:
    """Runs a function in a fork; in the setting `namespaces` as process 1 of its own PID namespace."""
    pid = os.fork()
    if pid:
        return Process(pid, log)
    code = 70
    try:
        if setting == "namespaces":
            if ctypes.CDLL(None, use_errno=True).unshare(_NEWPID):
                raise OSError(ctypes.get_errno(), "unshare")
            inner = os.fork()
            if inner:
                code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
                os._exit(code if code >= 0 else 128 - code)
            assert os.getpid() == 1
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for each in (1, 2):
            os.dup2(output, each)
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(module: str, *flags: str) -> Callable[[], None]:
    """A function that does `python -m MODULE FLAGS` without importing TensorFlow again."""

    def run() -> None:
        command = module.removesuffix(".__main__") + ".__main__"
        sys.modules["__main__"].__spec__ = importlib.util.find_spec(command)  # a lock file names the command by it
        sys.argv = [module, *flags]
        cli.run(importlib.import_module(command).main)

    return run


def checked(run: Callable[[], None], log: Path) -> None:
    """Runs a check in a fork. The check uses TensorFlow, and forks of a process that has used it may hang."""
    process = start(run, log)
    process.wait()
    assert process.code == 0, f"{log}: {process.output[-2000:]}"


def prepare(folder: Path, cases: list[str]) -> None:
    """Makes the photographs, the set and the trained run for the cases. Imports TensorFlow once for all forks."""
    if set(cases) <= {"replaced"}:
        return
    startup.load_tensorflow()
    for module in (
        "sqznet.train.start",
        "sqznet.export.bundle",
        "sqznet.compress.compressor",
        "sqznet.data.build",
    ):
        importlib.import_module(module)
    from tests import conftest

    conftest.COUNTS.update(train=20, val=6, test=3)
    conftest.draw_photographs(folder / "photos")
    checked(command(DATA, f"--source=folder:{folder / 'photos'}", f"--out={folder / 'set'}", "--workers=1"),
            folder / "set.txt")  # fmt: skip
    if not set(cases) & {"exports", "compressions", "searches"}:
        return
    checked(command("sqznet.train", *RECIPE, f"--data={folder / 'set'}", f"--run_dir={folder / 'run'}"),
            folder / "run.txt")  # fmt: skip


# Each case: two commands on a folder, and the check of the result.


def builds(base: Path, folder: Path):
    flags = [f"--source=folder:{base / 'photos'}", f"--out={folder / 'set'}", "--workers=1", "--shard_records=8"]
    one = command(DATA, *flags)
    return one, one, lambda: is_built(folder / "set")


def other_builds(base: Path, folder: Path):
    flags = [f"--source=folder:{base / 'photos'}", f"--out={folder / 'set'}", "--workers=1", "--shard_records=8"]
    return (
        command(DATA, *flags),
        command(DATA, *flags, "--seed=1"),
        lambda: is_built(folder / "set"),
    )


def is_built(folder: Path) -> None:
    from sqznet.data import build

    manifest = build.verify(folder)
    left = {path.name for path in folder.iterdir()} - {shard.path.name for shard in manifest.shards}
    assert left == {"manifest.json", "rejects.csv"}, left


def trainings(base: Path, folder: Path):
    one = command("sqznet.train", *RECIPE, f"--data={base / 'set'}", f"--run_dir={folder / 'run'}")
    return one, one, lambda: is_trained(folder / "run")


def is_trained(run_dir: Path) -> None:
    from sqznet.network import keras_file
    from sqznet.runs import checkpoint, history

    _, _, progress = checkpoint.load_last(run_dir)
    assert progress["step"] == 8
    epochs = [line["epoch"] for line in history.read(run_dir).metrics]
    assert epochs == list(range(1, len(epochs) + 1)) and len(epochs) == 4, epochs
    keras_file.load(run_dir / "best.keras")
    hidden = [path for path in run_dir.rglob("*") if path.name.startswith(".") or path.name == "lock"]
    assert not hidden, hidden


def build_and_training(base: Path, folder: Path):
    flags = [f"--source=folder:{base / 'photos'}", f"--out={folder / 'set'}", "--workers=1", "--shard_records=8"]

    def check() -> None:
        is_built(folder / "set")
        if (folder / "run").exists():
            is_trained(folder / "run")

    return (
        command(DATA, *flags),
        command("sqznet.train", *RECIPE, f"--data={folder / 'set'}", f"--run_dir={folder / 'run'}"),
        check,
    )


def exports(base: Path, folder: Path):
    flags = [f"--model={base / 'run'}", f"--data={base / 'set'}", "--format=tflite", f"--out={folder / 'out' / 'tiny'}"]
    one = command("sqznet.export.__main__", *flags, "--max_drop=100")

    def check() -> None:
        from sqznet.export import check as checks

        checks.check(folder / "out" / "tiny")
        assert [path.name for path in (folder / "out").iterdir()] == ["tiny"]

    return one, one, check


def compressions(base: Path, folder: Path):
    flags = [f"--model={base / 'run'}", f"--data={base / 'set'}", f"--out={folder / 'out' / 'tiny.sqz'}"]
    one = command("sqznet.compress", *flags, "--max_drop=100", "--target=1MB")

    def check() -> None:
        from sqznet.network.sqz import convert

        convert.load(folder / "out" / "tiny.sqz")
        assert not [path for path in (folder / "out").iterdir() if path.name.startswith(".")]

    return one, one, check


def searches(base: Path, folder: Path):
    space, recipe = folder / "space.json", folder / "recipe.json"
    space.write_text(json.dumps({"learning_rate": {"min": 1e-3, "max": 1e-2, "scale": "log"}}))
    config = json.loads((base / "run" / "config.json").read_text())["recipe"]
    recipe.write_text(json.dumps(config))
    flags = [f"--data={base / 'set'}", f"--recipe={recipe}", f"--space={space}", f"--out={folder / 'out'}"]
    one = command("sqznet.tune", *flags, "--tuner=random", "--trials=1", "--no-compare", "--strategy=one")

    def check() -> None:
        from sqznet.tune import search

        (trial,) = search.finished(folder / "out")
        assert trial.top1 is not None
        is_trained(search.run_dir_of(folder / "out", trial.name))

    return one, one, check


def bad_records(base: Path, folder: Path):
    shutil.copytree(base / "set", folder / "set")

    def leave_out() -> None:
        from sqznet.data import corruption, manifest

        made = manifest.load(folder / "set")
        shards = made.shards_of("train")
        for number in range(20):
            bad = [corruption.BadRecord(shard.path.name, number % shard.records, "test") for shard in shards]
            copied = corruption.without_bad_records(made, bad, folder / f"copies-{number}")
            corruption.save(folder, bad)
            for shard in copied.shards_of("train"):
                list(corruption.expected_records(shard.path, shard.records))

    def check() -> None:
        from sqznet.data import corruption, manifest, records

        made = manifest.load(folder / "set")
        for number in range(20):
            for shard in made.shards_of("train"):
                read = list(corruption.expected_records(folder / f"copies-{number}" / shard.path.name, shard.records))
                assert [each == records.UNUSABLE for each in read].count(True) == 1
                assert read[number % shard.records] == records.UNUSABLE
        assert len(corruption.load(folder)) == sum(min(20, shard.records) for shard in made.shards_of("train"))
        assert not list(folder.rglob(".*")), "locks or temporary files remain"

    return leave_out, leave_out, check


def replaced(base: Path, folder: Path):
    """Each process writes a file and a folder thirty times, and counts under a lock."""

    def write() -> None:
        for _ in range(30):
            token = secrets.token_hex(8)
            files.write_text(folder / "file", token * 10_000)
            with files.replacing(folder / "bundle") as made:
                made.mkdir()
                for name in ("a", "b"):
                    (made / name).write_text(token)
            read = (folder / "file").read_text()
            assert read == read[:16] * 10_000
            assert (folder / "bundle").is_dir()
            with locks.locked(folder / "counting.lock"):
                counted = folder / "counted"
                counted.write_text(str(int(counted.read_text() if counted.exists() else 0) + 1))

    def check() -> None:
        assert (folder / "counted").read_text() == "60"
        assert len({(folder / "bundle" / name).read_text() for name in ("a", "b")}) == 1
        names = {path.name for path in folder.iterdir()}
        assert names == {"file", "bundle", "counted", "0.txt", "1.txt", "check.txt"}, names

    return write, write, check


CASES = {each.__name__: each for each in (
    builds, other_builds, trainings, build_and_training, exports, compressions, searches, bad_records,
    replaced,
)}  # fmt: skip


def reason_of_failure(case: str, process: Process) -> str | None:
    """Why a process did not succeed; None if its message does not give an allowed reason."""
    last = (process.output.strip().splitlines() or [""])[-1]
    if NAMED.search(last):
        return "named the other"
    if case == "other_builds" and "was built from seed" in last:
        return "found another set"
    if case == "trainings" and "holds a run already" in last:
        return "found a run"
    # Before the build has started and after it has ended, there is no process to name.
    if case == "build_and_training" and re.search("no such folder|has no manifest.json", last):
        return "found no set"
    return None


def one_round(case: str, setting: str, base: Path, folder: Path, rng: random.Random) -> list[str]:
    """Starts both commands, waits for them and checks the result. Returns how they ended."""
    folder.mkdir(parents=True)
    *both, check = CASES[case](base, folder)
    rng.shuffle(both)
    processes = []
    for number, run in enumerate(both):
        processes.append(start(run, folder / f"{number}.txt", setting))
        time.sleep(rng.choice([0.0, 0.0, rng.uniform(0, 0.1), rng.uniform(0, 2)]))
    for each in processes:
        each.wait()
    ways = []
    for each in processes:
        way = "succeeded" if each.code == 0 else reason_of_failure(case, each)
        assert way, f"{each.log}: ended with {each.code}: {each.output[-2000:]}"
        ways.append(way)
        if "waiting: " in each.output:
            assert NAMED.search(each.output), each.output
            ways.append("waited")
    assert "succeeded" in ways, ways
    checked(check, folder / "check.txt")
    return ways


def run(cases: list[str], settings: list[str], rounds: int, seed: int, folder: Path) -> dict[tuple[str, str], Counter]:
    """Runs all rounds, and counts how the processes ended."""
    prepare(folder / "base", cases)
    rng = random.Random(seed)
    ended: dict[tuple[str, str], Counter] = {(case, setting): Counter() for case in cases for setting in settings}
    with console.progress("rounds/s") as bar:
        task = bar.add_task("racing", total=rounds * len(ended))
        for number in range(rounds):
            for case, setting in ended:
                here = folder / f"{case}-{setting}-{number}"
                began = time.monotonic()
                ended[case, setting].update(one_round(case, setting, folder / "base", here, rng))
                ended[case, setting].update(rounds=1, seconds=round(time.monotonic() - began))
                console.say(f"{case}, {setting}, round {number + 1}: {dict(ended[case, setting])}")
                shutil.rmtree(here)
                bar.advance(task)
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.races", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=50, help="rounds of each case in each setting")
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated; default all")
    parser.add_argument("--setting", choices=SETTINGS, help="default both")
    parser.add_argument("--seed", type=int, default=0, help="of the start times")
    args = parser.parse_args()
    settings = [args.setting] if args.setting else list(SETTINGS)
    if "namespaces" in settings and not can_have_namespaces():
        console.say("skipped: PID namespaces need Linux and root")
        settings.remove("namespaces")
    with tempfile.TemporaryDirectory() as folder:
        ended = run(args.case or list(CASES), settings, args.rounds, args.seed, Path(folder))
    console.table(
        ["case", "setting", "rounds", "how the processes have ended", "seconds"],
        [
            [case, setting, counts.pop("rounds"), ", ".join(f"{way} {count}" for way, count in sorted(counts.items())
                                                             if way != "seconds"), counts["seconds"]]
            for (case, setting), counts in ended.items()
        ],
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
