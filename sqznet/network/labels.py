"""Provides readable class names, and matches the class names of data with those of a model.

`imagenet_classes.txt` holds the 1,000 classes of ILSVRC 2012 in the order of their labels (0 first, the sorted WordNet
ids), each with the first word of WordNet 3.0. Two pairs of names would be equal, so these four names have an additional
word in brackets.

Data and models spell a class differently: `n03417042`, `garbage truck`, `Garbage_Truck`, or
`n03417042 garbage truck, dustcart`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from importlib import resources

_WITH_ID = re.compile(r"(n\d{8})[\s:,_-]+(\S.*)")  # a line of synset_words.txt, or a folder of that name


@functools.cache
def imagenet() -> dict[str, str]:
    """Returns the words of each WordNet id, in the order of the labels."""
    lines = resources.files("sqznet.network").joinpath("imagenet_classes.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def readable(classes: Iterable[str]) -> tuple[str, ...]:
    """Returns names for tables and pictures: WordNet ids become words, other names stay the same."""
    names = imagenet()
    return tuple(names.get(name, name) for name in classes)


def plain(name: str) -> str:
    """Converts a name to lower case, with single blanks instead of underscores and hyphens."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def match(wanted: Sequence[str], known: Sequence[str]) -> list[list[int]]:
    """Finds, for each class of data, the outputs of a model that the class may mean.

    An ambiguous class has several outputs.

    The order of priority is: the same spelling, the same whole text or WordNet id, one of several words for a class.
    """
    indexes: list[dict[str, set[int]]] = [{}, {}, {}]
    for output, name in enumerate(known):
        for index, forms in zip(indexes, _forms(name), strict=True):
            for form in forms:
                index.setdefault(form, set()).add(output)
    found = []
    for name in wanted:
        pairs = zip(indexes, _forms(name), strict=True)
        candidates = (set().union(*(index.get(form, set()) for form in forms)) for index, forms in pairs)
        found.append(sorted(next(filter(None, candidates), set())))
    return found


def _forms(name: str) -> tuple[set[str], set[str], set[str]]:
    """Returns a class name in three forms: the spelling, the whole texts, and these with their single names."""
    given = {name}
    with_id = _WITH_ID.fullmatch(name.strip())
    if with_id:
        given |= {with_id[1], with_id[2]}
    texts = {plain(each) for each in (*given, *readable(given))}
    parts = {part.strip() for text in texts for part in text.split(",")}
    parts |= {re.sub(r" *\(.*?\)", "", part) for part in parts}  # `crane (bird)`
    return {name}, texts, texts | parts - {""}


def close_to(name: str, known: Sequence[str]) -> list[str]:
    """Returns the readable names of up to three known classes that are spelt almost like this one."""
    shown = readable(known)
    forms = {form: shown[output] for output, each in enumerate(known) for form in _forms(each)[2]}
    return list(dict.fromkeys(forms[form] for form in difflib.get_close_matches(plain(name), forms, n=3, cutoff=0.75)))
