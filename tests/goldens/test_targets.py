"""The normalised target of SwinV2's recipe."""

import pytest

from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

pytestmark = pytest.mark.unit


def test_windowed_target(goldens):
    golden = goldens("norm_target")
    got = {}
    for case in golden.info["cases"]:
        images = golden.tensor(f"in/{case['tag']}")
        for size in case["sizes"]:
            settings = TargetSettings(kind="windowed", window=size)
            target = build_target(settings, min(case["h"], case["w"]))
            got[f"out/{case['tag']}/p{size}"] = target(images)
    golden.compare(got)
