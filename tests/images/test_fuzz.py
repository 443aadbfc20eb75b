"""The short form of `python -m tests.fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz


@pytest.mark.slow
def test_damaged_photographs_and_shards_are_refused_by_name_or_read_correctly():
    counts, defects = fuzz(195, seed=7)  # 15 for each share
    assert not defects
    assert counts.total() == 195
    assert {outcome.partition(",")[0] for _, outcome in counts} == {"accepted", "refused"}
