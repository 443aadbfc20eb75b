from __future__ import annotations

import pytest

from tests import ci
from tests.contract import kits, readers


@pytest.fixture(scope="session", params=kits.KITS)
def kit(request: pytest.FixtureRequest) -> kits.Kit:
    """The Kotlin and the Swift kit."""
    kit: kits.Kit = request.getfixturevalue(f"{request.param}_kit")
    return kit


@pytest.fixture(scope="session")
def kotlin_kit(tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    return _built("kotlin", tmp_path_factory)


@pytest.fixture(scope="session")
def swift_kit(tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    return _built("swift", tmp_path_factory)


def _built(language: str, tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    try:
        return kits.KITS[language](readers.manifest(readers.CONTRACT), tmp_path_factory.mktemp(language))
    except kits.CannotHaveError as reason:
        ci.cannot_have(str(reason))
    except kits.MissingError as reason:
        pytest.skip(str(reason))
