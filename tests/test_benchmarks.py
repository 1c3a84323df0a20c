"""Benchmarks put stopwatches around parts of the loop by name: the names must be there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

OWNERS = {
    **{
        name: f"mimray.train.{name}"
        for name in ("checkpoint", "driver", "launch", "loop", "trainer")
    },
    "Pretraining": "mimray.train.tasks.pretraining:Pretraining",
    "Plan": "mimray.data.plan:Plan",
    "Guard": "mimray.mim.guard:Guard",
}


def patched(file):
    """(owner, name) of everything that a benchmark replaces."""
    text = (Path("benchmarks") / file).read_text()
    around = re.findall(r"put_around\(([\w.]+), ((?:\"\w+\", )+)", text)
    found = [(owner, name) for owner, names in around for name in re.findall(r"\w+", names)]
    taken = re.findall(r"noted\((\w+)\.(\w+),", text)
    return found + taken + [("loop", name) for name in re.findall(r"loop\.(\w+)", text)]


@pytest.mark.parametrize("file", ["_overhead.py", "_recovery.py"])
def test_what_a_benchmark_replaces_is_there(file):
    names = patched(file)
    assert len(names) > 3
    for owner, name in names:
        root, *inner = owner.split(".")
        module, _, attribute = OWNERS[root].partition(":")
        found = import_module(module)
        for part in [*([attribute] if attribute else []), *inner]:
            found = getattr(found, part)
        assert hasattr(found, name), f"{file}: {owner}.{name}"
