"""Runs one search from the flags to the results. Holds the lock of the folder during the search."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from sqznet import recipes
from sqznet.core import console, locks
from sqznet.data import manifest
from sqznet.recipes import Recipe, fitting
from sqznet.train import finetune
from sqznet.tune import oracles, results, search
from sqznet.tune import space as spaces


def run(args: argparse.Namespace, recipe: Recipe, space: spaces.Space, out: Path) -> None:
    """Searches a space around a recipe, with the flags of `sqznet.tune`, and writes the results to `out`.

    Raises:
        Stopped: a signal has stopped the search.
        InputError: data or weights cannot be read, another search uses `out`, or no trial was finished.
    """
    shards = manifest.load(args.data)
    records = shards.records("train")
    if args.recipe in recipes.RECIPES:  # a recipe from a file is not fitted, as in a training
        recipe = fitting.fit(recipe, records, args.replicas or 1, ())
    if args.space in spaces.SPACES:
        space = fitting.searchable(space, records)
    origin = finetune.load(args.init_weights) if args.init_weights else None
    oracle = oracles.make(args.tuner, space, args.trials, recipe.epochs, args.seed)
    flags = [f"--data={args.data}", f"--strategy={args.strategy}"]
    flags += [f"--{name}={getattr(args, name)}" for name in ("replicas", "init_weights") if getattr(args, name)]
    identity = {"recipe": recipe.to_dict(), "space": space, "tuner": args.tuner, "seed": args.seed}
    if args.init_weights:
        identity["init_weights"] = str(args.init_weights)
    with _locked(out, args.role):
        results.check_identity(out, identity)
        finished = len(search.finished(out))
        if finished:
            console.say(f"{finished} trials of {out} are finished already")
        search.Search(oracle, recipe, out, flags).search()
        if args.role != "worker":
            compared_by = flags if args.compare else None
            results.conclude(out, recipe, list(space), compared_by, data=shards, origin=origin)


@contextlib.contextmanager
def _locked(out: Path, role: str | None) -> Iterator[None]:
    """Prevents a second search, or a second chief, in a folder. A worker gets the lowest number whose lock is free.

    Therefore a worker that is started again gets the number of a killed worker, and continues the trial of that worker.

    Raises:
        InputError: another process searches in `out`.
    """
    with contextlib.ExitStack() as held:
        if role == "worker":
            for number in itertools.count():
                with contextlib.suppress(locks.Held):
                    held.enter_context(locks.locked(out / f"worker-{number}.lock", f"searches in {out}", wait=False))
                    os.environ["KERASTUNER_TUNER_ID"] = f"worker-{number}"
                    break
        else:
            remedy = "wait for it, or name another --out"
            held.enter_context(locks.locked(out / "lock", f"searches in {out}", wait=False, remedy=remedy))
            if role == "chief":
                os.environ["KERASTUNER_TUNER_ID"] = "chief"
        yield
