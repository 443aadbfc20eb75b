from __future__ import annotations

import pytest

from tests import ci
from tests.contract import kits, readers


@pytest.fixture(scope="session", params=kits.KITS)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    """The Kotlin and the Swift kit."""
    try:
        return kits.KITS[request.param](readers.manifest(readers.CONTRACT), tmp_path_factory.mktemp(request.param))
    except kits.CannotHaveError as reason:
        ci.cannot_have(str(reason))
    except kits.MissingError as reason:
        pytest.skip(str(reason))
