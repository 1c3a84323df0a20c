"""F1: trainers that are killed at seeded moments; the run ends as if nothing had happened."""

import random

import pytest

from tests.faults.harness import STEPS, Run, assert_same

pytestmark = pytest.mark.faults

PLACES = ("step", "backward", "all_reduce", "report", "save")
KILLS = 4  # in one run
SEEDS = {0: 2, 1: 2, 2: 2, 3: 2, 4: 1}  # seed: trainers; 20 moments in all


def kills(seed: int, workers: int) -> list[dict]:
    """Four moments: a step, a rank and a place of it, so that every checkpoint's kind of moment comes."""
    draw = random.Random(seed)
    steps = sorted(draw.sample(range(2, STEPS), KILLS))
    places = draw.sample([p for p in PLACES if workers > 1 or p != "all_reduce"], KILLS)
    found = []
    for step, place in zip(steps, places, strict=True):
        if place == "save":
            step = max(5, step - step % 5)
        rank = 0 if place in ("report", "save") else draw.randrange(workers)
        found.append({"step": step, "rank": rank, "place": place, "action": "kill"})
    return found


def test_all_places_are_met():
    met = {kill["place"] for seed, workers in SEEDS.items() for kill in kills(seed, workers)}
    assert met == set(PLACES)


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=[] if s == 0 else pytest.mark.long) for s in SEEDS]
)
def test_killed_at_seeded_moments(tmp_path, references, seed):
    workers = SEEDS[seed]
    faults = kills(seed, workers)
    run = Run(tmp_path, [f"speed.workers={workers}"], faults).start()
    done = run.finish(timeout=500)
    assert_same(run, done, references(workers))
    happened = {file.name for file in (tmp_path / "notes").iterdir() if file.suffix != ".jsonl"}
    assert len(happened) == KILLS, f"not all came about: {faults}"
    starts = [start["step"] for start in done.record["starts"]]
    assert len(starts) == KILLS + 1
    for kill, start in zip(faults, starts[1:], strict=True):
        assert start >= kill["step"] - 2 * 5, (
            "more than an interval and the one being written is lost"
        )
