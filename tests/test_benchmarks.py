"""Benchmarks put stopwatches around parts of the loop by name: the names must be there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import recognition, sweep

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


def test_the_benchmark_of_recognition_says_which_photos_it_lacks(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)  # its own photos lie beside the repository, wherever it is started
    assert recognition.PHOTOS.parents[3] == Path(recognition.__file__).resolve().parents[2]
    monkeypatch.setattr("sys.argv", ["recognition", "--json", "--data", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        recognition.main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and "none; name the photos with --data" in line


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


def test_masks_are_compared_at_the_best_rate_alone():
    """Two seeds; a poor learning rate would make any separation large."""
    grids = [
        {"optim.lr=1 mask.unit=4": 0.1, "optim.lr=1 mask.unit=8": 0.0, "optim.lr=2 mask.unit=4": 0.5 + late,
         "optim.lr=2 mask.unit=8": 0.6, "optim.lr=2 mask.unit=16": 0.4}
        for late in (0.0, 0.1)
    ]  # fmt: skip
    found = sweep.among_masks(grids)
    assert found["best over median"] == pytest.approx(0.05)
    assert found["deviation"] == pytest.approx((0.1**2 / 2 / 3) ** 0.5)
