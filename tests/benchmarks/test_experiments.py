"""Experiments that replace a part of the package find that part."""

from __future__ import annotations

import pytest

from benchmarks.experiments import crops, int8_stages


@pytest.mark.parametrize("stage", int8_stages.replacements())
def test_every_stage_of_int8_can_be_left_out(stage):
    patch = int8_stages.replacements()[stage]
    original = getattr(patch.getter(), patch.attribute)
    with patch:
        assert getattr(patch.getter(), patch.attribute) is not original
    assert getattr(patch.getter(), patch.attribute) is original


@pytest.mark.parametrize("way", crops.WAYS)
def test_every_way_to_scale_a_crop_can_be_chosen(way):
    for patch in crops.patches(way):
        original = getattr(patch.getter(), patch.attribute)
        with patch:
            assert getattr(patch.getter(), patch.attribute) is not original
