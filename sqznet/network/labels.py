"""Class names that people can read: ImageNet's WordNet ids become words, everything else stays as it is.

`imagenet_classes.txt` holds the 1,000 classes of ILSVRC 2012 in the order of their labels (0 first, the sorted WordNet
ids), each with the first word that WordNet 3.0 has for it; the four that would read alike have a word in brackets.

Data and models spell a class in their own ways: `n03417042`, `garbage truck`, `Garbage_Truck`, or with all words,
`n03417042 garbage truck, dustcart`. `match` finds which stand for which.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence
from importlib import resources


@functools.cache
def imagenet() -> dict[str, str]:
    """WordNet id to words, in the order of the labels."""
    lines = resources.files("sqznet.network").joinpath("imagenet_classes.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def readable(classes: Iterable[str]) -> tuple[str, ...]:
    """Names for tables and pictures; those of data and models, which have to be equal, stay what they are."""
    names = imagenet()
    return tuple(names.get(name, name) for name in classes)


_WITH_ID = re.compile(r"(n\d{8})[\s:,_-]+(\S.*)")  # a line of synset_words.txt, a folder


def plain(name: str) -> str:
    """A name without what people write in different ways: case, underscores, hyphens and blanks."""
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def match(wanted: Sequence[str], known: Sequence[str]) -> list[list[int]]:
    """For each class of data the outputs of a model that it may stand for: none, one, or several where it is ambiguous.

    The same spelling counts first, then the same whole text or WordNet id, then one of several words for a class.
    """
    exact: dict[str, list[int]] = {}
    whole: dict[str, list[int]] = {}
    word: dict[str, list[int]] = {}
    for output, name in enumerate(known):
        exact.setdefault(name, []).append(output)
        texts, words = _texts(name)
        for found, forms in ((whole, texts), (word, texts | words)):
            for form in forms:
                found.setdefault(form, []).append(output)
    matched = []
    for name in wanted:
        texts, words = _texts(name)
        matched.append(exact.get(name) or _outputs(whole, texts) or _outputs(word, texts | words))
    return matched


def _outputs(of: dict[str, list[int]], forms: Iterable[str]) -> list[int]:
    return sorted({output for form in forms for output in of.get(form, ())})


def _texts(name: str) -> tuple[set[str], set[str]]:
    """A class's name as whole texts, and each of several words in them."""
    given = {name}
    with_id = _WITH_ID.fullmatch(name.strip())
    if with_id:
        given |= {with_id[1], with_id[2]}
    texts = {plain(each) for each in (*given, *readable(given))}
    parts = {part.strip() for text in texts for part in text.split(",")}
    parts |= {re.sub(r" *\(.*?\)", "", part) for part in parts}  # `crane (bird)`
    return texts, parts - {""}


def close_to(name: str, known: Sequence[str]) -> list[str]:
    """Up to three of the known classes whose names are almost this one, in words."""
    shown = readable(known)
    forms = {form: shown[output] for output, each in enumerate(known) for form in set().union(*_texts(each))}
    return list(dict.fromkeys(forms[form] for form in difflib.get_close_matches(plain(name), forms, n=3, cutoff=0.75)))
