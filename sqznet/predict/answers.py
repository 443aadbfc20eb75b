"""Computes the likeliest classes of photographs. Prints them as a table, CSV or JSON, or draws them."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqznet.core import console, files, plots
from sqznet.core.errors import InputError, NotAnImage, Reject
from sqznet.images import colour, resize
from sqznet.predict import class_maps, photographs, prediction
from sqznet.predict.inference import Predictor
from sqznet.predict.prediction import Ranking

Each = TypeVar("Each")

BAR_FROM = 10  # photographs from which on a progress bar is shown


@dataclass(frozen=True)
class Answer:
    """The likeliest classes of one photograph."""

    photo: Path
    predictions: Ranking
    class_map: Path | None = None  # the picture of the class map, if one was drawn

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


def answer(
    photos: dict[Path, bool], predictor: Predictor, top: int, class_maps_in: Path | None = None
) -> tuple[list[Answer], dict[str, str]]:
    """Returns the answers, and the reason for each photograph that could not be read.

    Args:
        photos: from `photographs.list_photos`.
        top: number of classes for each photograph.
        class_maps_in: the folder for a picture of the class map of each photograph, or None for no pictures. The pixels
            of the answers then show the class map, too.

    Raises:
        InputError: no file is a photograph, or the model is a file without a class map.
    """
    if class_maps_in is not None:
        predictor.require_class_map()
    answers: list[Answer] = []
    failures: dict[str, str] = {}
    others: list[Path] = []  # files of folders that are not photographs
    pictures: set[str] = set()  # names, in lower case
    broken_profiles = 0
    for photo in with_bar(photos):
        try:
            photograph, colours = photographs.read(photo)
        except Reject as reason:
            if isinstance(reason, NotAnImage) and not photos[photo]:
                others.append(photo)
            else:
                failures[str(photo)] = str(reason)
            continue
        broken_profiles += colours == colour.BROKEN
        picture = None
        if class_maps_in is None:
            ranking = prediction.rank(predictor, resize.prepare(photograph, predictor.card.preprocessing), top)
        else:
            found = class_maps.compute(predictor, photograph, top)
            picture = class_maps_in / _unused_name(photo, pictures)
            with files.replacing(picture) as temporary:
                found.picture().save(temporary, "PNG")
            ranking = found.ranking
            ranking.pixels = found.square()
        # The pixels of thousands of photographs would fill the memory.
        if len(answers) >= plots.SHEET:
            ranking.pixels = None
        answers.append(Answer(photo, ranking, picture))
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


def _unused_name(photo: Path, used: set[str]) -> str:
    """Returns a file name for the class map of a photograph, and adds it to the names in use.

    The name never is that of a photograph, which may lie in the same folder.
    """
    endings = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (f"{photo.stem}{ending}.class_map.png" for ending in endings)
    name = next(each for each in names if each.lower() not in used)
    used.add(name.lower())
    return name


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
            each.predictions.answer if rank == 1 else found.label,
            console.percent(found.probability),
        ]
        for each in answers
        for rank, found in enumerate(each.predictions, start=1)
    ]
    if rows:
        console.table(["photograph", "rank", "class", "probability"], rows, title=title)


def print_csv(answers: list[Answer]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["photograph", "rank", "index", "class", "name", "probability", "answered"])
    for each in answers:
        answered = json.dumps(each.predictions.answered)
        for found in each.rows():
            writer.writerow([console.printable(str(each.photo), keep=""), *found.values(), answered])


def print_json(answers: list[Answer], failures: dict[str, str], predictor: Predictor) -> None:
    content = {
        "model": str(predictor.path),
        "preprocessing": predictor.card.preprocessing.to_dict(),
        "geometry_override": predictor.geometry or None,
        "threshold": predictor.threshold,
        "photographs": [_photograph(each) for each in answers],
        "errors": failures,
    }
    print(json.dumps(content, indent=1))


def _photograph(answer: Answer) -> dict[str, Any]:
    content = {
        "photograph": str(answer.photo),
        "answered": answer.predictions.answered,
        "predictions": answer.rows(),
    }
    return content if answer.class_map is None else {**content, "class_map": str(answer.class_map)}


def draw(answers: list[Answer], path: Path) -> None:
    """Writes a sheet of the first plots.SHEET photographs with their likeliest class, as PNG."""
    drawn = {each.photo: each.predictions.pixels for each in answers if each.predictions.pixels is not None}
    captions = [
        f"{console.printable(each.photo.name)}\n{each.predictions.answer} {100 * each.predictions[0].probability:.0f} %"
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
