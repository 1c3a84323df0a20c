"""The same pictures, crops and masks whatever the trainers, the stops between them and the loader."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mimray.data.sources import open_source
from tests.train.elastic import WAYS
from tests.train.runs import environment

pytestmark = pytest.mark.faults

DAMAGED = {3, 11, 17}


@pytest.fixture(scope="module")
def ways(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("elastic")
    pictures = open_source("builtin:photos/train").read(range(34))
    for part, chosen in (("train", pictures[:30]), ("val", pictures[30:])):
        (folder / part).mkdir()
        for k, data in enumerate(chosen):
            whole = part == "val" or k not in DAMAGED
            (folder / part / f"{k:02}.jpg").write_bytes(data if whole else data[:300])
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.elastic", str(folder)],
        cwd=Path(__file__).parents[2],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def joined(seen: list[dict]) -> dict:
    """The samples of all starts; no position stands in two of them."""
    counts = Counter(position for start in seen for position in start)
    assert set(counts.values()) == {1}
    return {position: start[position] for start in seen for position in start}


def test_nothing_is_seen_twice_or_left_out(ways):
    seen = joined(ways["undisturbed"]["seen"])
    assert [int(p) for p in seen] == list(range(9))
    for epoch in range(3):
        rows = [s[0] for p in range(3 * epoch, 3 * epoch + 3) for s in seen[str(p)]]
        assert sorted(rows) == list(range(30))


def test_stopping_and_going_on_with_other_trainers_or_loader_changes_no_sample(ways):
    # asked to stop after 2 and after 5: several trainers count their votes a step later, one at once
    assert [len(start) for start in ways["stopped"]["seen"]] == [3, 2, 4]
    assert joined(ways["stopped"]["seen"]) == joined(ways["undisturbed"]["seen"])


@pytest.mark.parametrize("way", WAYS)
def test_the_quarantine_is_the_same_by_row_and_reason(ways, way):
    """Also a start that goes on knows all of it: what was found before stands in the checkpoint."""
    starts = ways[way]["damaged"]
    assert {tuple(p) for p in starts[-1]} == {(row, 3) for row in DAMAGED}
    assert {tuple(p) for start in starts for p in start} == {(row, 3) for row in DAMAGED}


def test_another_picture_takes_the_place_of_a_damaged_one(ways):
    seen = joined(ways["undisturbed"]["seen"])
    taken = [s for samples in seen.values() for s in samples if s[0] in DAMAGED]
    assert len(taken) == 9 and all(weight == 1.0 for *_, weight in taken)
    assert len({pixels for _, pixels, _, _ in taken}) == 9
