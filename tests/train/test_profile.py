"""Twenty measured steps: the arithmetic on rows by hand, and one real measurement."""

import json
import subprocess
import sys

import pytest

from mimray.durations import Clock
from mimray.recipe import load_recipe
from mimray.train.profile import STEPS, WARM_UP, read_rows, shortened
from mimray.train.run_folder import RunFolder
from tests.train.runs import environment

CLOCK = Clock(55, 16, 1000)


def rows(stalls):
    """Rows of five steps, 2 s each with 0.5 s of waiting, 0.01 s apart; `stalls`: more, before a row."""
    made, now = [], 100.0
    for step in (5, 10, 15, 20, 25, 26):
        seconds = 9.0 if step in (5, 26) else 2.0  # neither the start nor the end counts
        now += seconds + 0.01 + stalls.get(step, 0.0)
        made.append(
            {
                "step": step,
                "time": now,
                "speed/seconds": seconds,
                "speed/data_wait_s": 0.5,
                "speed/peak_memory_gib": step / 10,
            }
        )
    return made


@pytest.mark.unit
def test_where_the_time_of_rows_went():
    recipe = load_recipe("demo", ["run.log_every=2it", "run.checkpoint_every=100it"])
    found = read_rows(rows({15: 0.7, 25: 0.4, 26: 5.0}), recipe, CLOCK, ideal=1e-3)
    assert found.data == pytest.approx(4 * 0.5 / STEPS)
    assert found.compute == pytest.approx(4 * 1.5 / STEPS)
    assert found.report == pytest.approx(0.01)
    assert found.stall == pytest.approx(0.4)  # the quicker of the two checkpoints
    assert (found.report_every, found.stall_every) == (2, 100)
    assert found.peak_memory_gib == 2.5
    step = 0.4 + 0.01 / 2 + 0.4 / 100
    assert found.images_per_s == pytest.approx(16 / step)
    assert found.mfu == pytest.approx(16 / step * 1e-3)
    assert sum(found.to_json()["shares"].values()) == pytest.approx(1.0)


@pytest.mark.unit
def test_the_short_run_differs_in_nothing_that_costs_time(tmp_path):
    recipe = load_recipe("demo", [f"run.storage={tmp_path}", "run.name=mine"])
    short = shortened(recipe, f"{tmp_path}/elsewhere")
    for same in ("model", "mask", "head", "target", "optim", "speed"):
        assert getattr(short, same) == getattr(recipe, same)
    assert short.data.train == recipe.data.train
    assert CLOCK.steps(short.schedule.length) == WARM_UP + STEPS + 1
    assert RunFolder.of(short).uri == f"{tmp_path}/elsewhere/profile"
    load_recipe(str(write(tmp_path, short)), [])  # every setting is one that a user could give


def write(folder, recipe):
    file = folder / "short.yaml"
    file.write_text(recipe.to_yaml())
    return file


@pytest.mark.faults  # no fault, but a run of its own
def test_a_measurement_of_the_demo(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mimray.cli", "doctor", "demo", "--profile", "--json"),
            *(f"run.storage={tmp_path}/runs", "run.name=mine"),
        ],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = done.stdout.strip().splitlines()
    result = json.loads(line)
    assert result["ok"] and result["not_measured"] is None
    predicted, measured = result["predicted"], result["measured"]
    assert measured["steps"] == 20
    per_second = measured["batch"] / measured["seconds_a_step"]
    assert measured["images_per_s"] == pytest.approx(per_second)
    rate = predicted["tflop_per_s"] * 1e12
    mfu = per_second * predicted["gflop_training"] * 1e9 / rate
    assert measured["mfu"] == pytest.approx(mfu)
    assert all(share >= 0 for share in measured["shares"].values())
    assert measured["shares"]["compute"] > 0.1
    assert 0 < measured["checkpoint_stall_s"] < 10
    assert measured["hours"] == pytest.approx(16_000 / per_second / 3600)
    assert not any(tmp_path.iterdir())  # not even the folder of runs
