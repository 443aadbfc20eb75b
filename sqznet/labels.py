"""Class names that people can read: ImageNet's WordNet ids become words, everything else stays as it is.

`imagenet_classes.txt` holds the 1,000 classes of ILSVRC 2012 in the order of their labels (0 first, the sorted WordNet
ids), each with the first word that WordNet 3.0 has for it; the four that would read alike have a word in brackets.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib import resources


@functools.cache
def imagenet() -> dict[str, str]:
    """WordNet id to words, in the order of the labels."""
    lines = resources.files("sqznet").joinpath("imagenet_classes.txt").read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def readable(classes: Iterable[str]) -> tuple[str, ...]:
    """Names for tables and pictures; those of data and models, which have to be equal, stay what they are."""
    names = imagenet()
    return tuple(names.get(name, name) for name in classes)
