"""The official optimiser's numbers; every size is read from the files."""

import json
import re

import pytest

from tests.mim.conftest import official  # noqa: F401  (the fixture)


@pytest.fixture
def goldens(shared):
    return shared / "goldens"


@pytest.fixture
def content(goldens):
    """`content(name)`: what stands in a JSON file of numbers."""
    return lambda name: json.loads((goldens / f"{name}.json").read_text())["content"]


OUTSIDE = ("head.", "fc_norm.", "decoder.", "last_layer_depth.")


def ours(name):
    """An official parameter's name here: timm merges patches at the start of a stage."""
    name = name.removeprefix("encoder.")
    if name.startswith(OUTSIDE):
        return f"head.{name}"
    return "encoder." + re.sub(
        r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
    )


def family_of(model):
    """Of a model's name in param_groups.json."""
    return re.search(r"swinv2|swin|vit", model)[0]


def depths_of(names):
    """Blocks of every stage, by the names of the parameters."""
    found = [re.search(r"(?:layers\.(\d+)\.)?blocks\.(\d+)\.", name) for name in names]
    blocks = {(int(m[1] or 0), int(m[2])) for m in found if m}
    stages = 1 + max(stage for stage, _ in blocks)
    return tuple(sum(s == stage for s, _ in blocks) for stage in range(stages))
