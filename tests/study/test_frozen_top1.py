"""Scores of frozen features are of the pictures that there are now, or are refused."""

import json

import pytest

from mimray.data.collections import open_pictures
from mimray.data.sources import open_source
from mimray.errors import UserError
from mimray.study.frozen_top1 import FrozenTop1
from mimray.study.scaling.frozen import FrozenStep
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.knn_top1 import KnnTop1
from mimray.study.sweeps.sweep import Knn
from tests.study.sweeps.small import MASKS

pytestmark = pytest.mark.unit


@pytest.fixture
def cells(tmp_path):
    (tmp_path / "tiny.yaml").write_text(MASKS)
    _, cells = load_sweep(str(tmp_path / "tiny.yaml"), [f"run.storage={tmp_path / 'runs'}"])
    return cells


@pytest.fixture
def lab(tmp_path):
    """Two folders of labelled pictures."""
    photos = open_source("builtin:photos/val").read(range(8))
    for number, data in enumerate(photos):
        place = tmp_path / ("train", "val")[number % 2] / "ab"[number // 4]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(data)
    return str(tmp_path / "train"), str(tmp_path / "val")


def score(asked, cell, storage, value=0.9):
    """As if it had been measured."""
    about = {name: {"source": open_pictures(uri, name).digest}
             for name, uri in (("train", asked.train), ("val", asked.val))}  # fmt: skip
    place = storage / "runs/evaluate" / asked.name(cell)
    place.mkdir(parents=True)
    told = {"name": "a score", "chosen": {"top1": value}, "digests": about}
    (place / "result.json").write_text(json.dumps(told))
    return place / "result.json"


@pytest.mark.parametrize("which", ["train", "val"])
@pytest.mark.parametrize(
    ("kind", "whose"),
    [
        ("knn", lambda train, val: KnnTop1(Knn(train=train, val=val))),
        ("knn", lambda train, val: FrozenStep("knn", train, val)),
        ("linear", lambda train, val: FrozenStep("linear", train, val)),
    ],
)
def test_scores_on_other_pictures_are_not_mixed(cells, lab, tmp_path, which, kind, whose):
    asked, whole = FrozenTop1(kind, *lab), whose(*lab)
    score(asked, cells[1], tmp_path)  # not the first
    whole.check(cells)
    assert (asked.value(cells[0]), asked.value(cells[1])) == (None, 0.9)
    more = open_source("builtin:photos/val").read([20])[0]
    (tmp_path / which / "a" / "more.jpg").write_bytes(more)
    with pytest.raises(UserError, match=r"was scored on other pictures than .* holds now") as told:
        whole.check(cells)
    assert "\n" not in str(told.value)


def test_a_damaged_score_is_a_failure_of_its_cell_alone(cells, lab, tmp_path):
    asked = FrozenTop1("knn", *lab)
    score(asked, cells[0], tmp_path).write_text("{")
    asked.check(cells)
    with pytest.raises(UserError, match="is damaged; remove it"):
        asked.value(cells[0])
