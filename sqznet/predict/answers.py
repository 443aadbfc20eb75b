"""Computes the likeliest classes of photographs. Prints them as a table, CSV or JSON, or draws them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqznet.core import console, plots
from sqznet.core.errors import InputError, NotAnImage, Reject
from sqznet.images import colour
from sqznet.predict import photographs, prediction
from sqznet.predict.inference import Predictor
from sqznet.predict.prediction import Ranking

Each = TypeVar("Each")

BAR_FROM = 10  # photographs from which on a progress bar is shown


@dataclass(frozen=True)
class Answer:
    """The likeliest classes of one photograph."""

    photo: Path
    predictions: Ranking

    def rows(self) -> list[dict[str, Any]]:
        """Returns the predictions as written in JSON and CSV."""
        return [
            {
                "rank": rank,
                "index": each.index,
                "class": each.class_name,
                "name": each.label,
                "probability": each.probability,
            }
            for rank, each in enumerate(self.predictions, start=1)
        ]


def answer(photos: dict[Path, bool], predictor: Predictor, top: int) -> tuple[list[Answer], dict[str, str]]:
    """Returns the answers, and the reason for each photograph that could not be read.

    Args:
        photos: from `photographs.list_photos`.
        top: number of classes for each photograph.

    Raises:
        InputError: no file is a photograph.
    """
    answers: list[Answer] = []
    failures: dict[str, str] = {}
    others: list[Path] = []  # files of folders that are not photographs
    broken_profiles = 0
    for photo in with_bar(photos):
        try:
            pixels, colours = photographs.read(photo, predictor)
        except Reject as reason:
            if isinstance(reason, NotAnImage) and not photos[photo]:
                others.append(photo)
            else:
                failures[str(photo)] = str(reason)
            continue
        broken_profiles += colours == colour.BROKEN
        ranking = prediction.rank(predictor, pixels, top)
        # The pixels of thousands of photographs would fill the memory.
        if len(answers) >= plots.SHEET:
            ranking.pixels = None
        answers.append(Answer(photo, ranking))
    if others:
        what = console.counted(len(others), "file is no photograph and was", "files are no photographs and were")
        console.say(f"{what} left out, such as {others[0]}")
    if broken_profiles:
        what = console.counted(broken_profiles, "photograph has", "photographs have")
        verb = "was" if broken_profiles == 1 else "were"
        console.say(f"{what} a broken colour profile and {verb} taken as sRGB")
    if not answers and not failures:
        raise InputError(
            f"{others[0]} is no photograph" if len(others) == 1 else f"none of {len(others)} files is a photograph"
        )
    return answers, failures


def with_bar(photographs: Iterable[Each]) -> Iterator[Each]:
    """Yields the photographs. If there are many, shows a progress bar."""
    if isinstance(photographs, Sized) and len(photographs) < BAR_FROM:
        yield from photographs
        return
    with console.progress("images/s") as bar:
        yield from bar.track(photographs, description="predicting")


def print_table(answers: list[Answer], title: str) -> None:
    rows = [
        [
            str(each.photo) if rank == 1 else "",
            rank,
            found.label,
            console.percent(found.probability),
        ]
        for each in answers
        for rank, found in enumerate(each.predictions, start=1)
    ]
    if rows:
        console.table(["photograph", "rank", "class", "probability"], rows, title=title)


def print_csv(answers: list[Answer]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["photograph", "rank", "index", "class", "name", "probability"])
    for each in answers:
        for found in each.rows():
            writer.writerow([console.printable(str(each.photo), keep=""), *found.values()])


def print_json(answers: list[Answer], failures: dict[str, str], predictor: Predictor) -> None:
    content = {
        "model": str(predictor.path),
        "preprocessing": predictor.card.preprocessing.to_dict(),
        "geometry_override": predictor.geometry or None,
        "photographs": [{"photograph": str(each.photo), "predictions": each.rows()} for each in answers],
        "errors": failures,
    }
    print(json.dumps(content, indent=1))


def draw(answers: list[Answer], path: Path) -> None:
    """Writes a sheet of the first plots.SHEET photographs with their likeliest class, as PNG."""
    drawn = {each.photo: each.predictions.pixels for each in answers if each.predictions.pixels is not None}
    captions = [
        f"{console.printable(each.photo.name)}\n{each.predictions[0].label} "
        f"{100 * each.predictions[0].probability:.0f} %"
        for each in answers[: len(drawn)]
    ]
    with console.doing("drawing the picture"):
        plots.prediction_sheet(list(drawn.values()), captions, path)
    console.say(f"picture: {path}")
    if len(drawn) < len(answers):
        console.say(
            f"note: it shows the first {len(drawn)} of {len(answers):,} photographs; the table, --csv and --json have "
            "all"
        )
