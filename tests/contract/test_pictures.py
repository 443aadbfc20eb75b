"""One set of pictures through every implementation of the input contract."""

from __future__ import annotations

import pytest

from tests import ci
from tests.contract import compare, kits, pictures, readers

# Chromium adds the black ink to the others before it applies the profile. The page refuses such files.
REFUSED = {("page", "cmyk-press-profile.jpg"): "CMYK image with a colour profile"}


@pytest.fixture(scope="module")
def drawn() -> list[pictures.Picture]:
    return pictures.draw()


@pytest.mark.parametrize(
    "reader",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("Kotlin", "Swift"))) for name in readers.READERS],
)
def test_every_reader_decodes_every_picture_within_two_levels(reader, drawn):
    try:
        found = compare.measure(reader, drawn)
    except kits.CannotHaveError as reason:
        ci.cannot_have(str(reason))
    except kits.MissingError as reason:
        pytest.skip(str(reason))
    for name, difference in found.items():
        if (reader, name) in REFUSED:
            assert REFUSED[reader, name] in difference
        else:
            assert not isinstance(difference, str) and difference[0] <= compare.LIMIT, (name, difference)


def test_the_set_is_the_same_whenever_it_is_drawn(drawn):
    assert [picture.content for picture in pictures.draw()] == [picture.content for picture in drawn]
