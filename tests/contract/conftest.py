from __future__ import annotations

import copy
from typing import Any

import pytest

from sqznet.preprocessing import DECODING, Preprocessing

from ..export.test_contract import MANIFEST
from . import kits

CONTRACT = Preprocessing(64, 73)  # as small a share of the photograph as 224 of 256


def manifest(preprocessing: Preprocessing) -> dict[str, Any]:
    """A manifest.json with that preprocessing."""
    content = copy.deepcopy(MANIFEST)
    content["preprocessing"] = {**preprocessing.to_dict(), **DECODING, "colour_order": "RGB", "range": [0, 255]}
    return content


@pytest.fixture(scope="session", params=kits.KITS)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    """The Kotlin and the Swift kit."""
    try:
        return kits.KITS[request.param](manifest(CONTRACT), tmp_path_factory.mktemp(request.param))
    except kits.MissingError as reason:
        pytest.skip(str(reason))
