"""Runs that differ in their seed alone are compared by their mean, in the table and on the screen."""

import pytest
import yaml

from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.seeds import best_of, candidates, compared, lead_of
from mimray.study.sweeps.sweep import Sweep
from mimray.study.sweeps.table import best_recipe
from mimray.verbs.sweep_screen import show

pytestmark = pytest.mark.unit

SEEDS = Sweep(recipe="demo", grid={"optim.lr": [0.1, 0.2, 0.3], "run.seed": [0, 1, 2]})
LUCK = {0.1: [0.1, 0.2, 0.9], 0.2: [0.5, 0.6, 0.7], 0.3: [0.3, 0.4, 0.2]}
"""The best single run is of 0.1, the best mean of 0.2."""


def rows_of(worth):
    found = {
        **{"status": "finished", "avgdist_px": 4.0, "val/loss": 0.5, "val/skill": 0.25, "steps": 7},
        **{"val/reference_loss": 0.75, "val/reference_skill": 0.125},
    }
    return [
        {"optim.lr": lr, "run.seed": seed, "run": f"tiny-{lr}-{seed}", **found, "objective": value}
        for lr, values in worth.items()
        for seed, value in enumerate(values)
    ]


def test_the_best_mean_wins_and_not_the_luckiest_run():
    known = candidates(SEEDS, rows_of(LUCK))
    best = best_of(known)
    assert best.told == {
        "optim.lr": 0.2,
        "objective": pytest.approx(0.6),
        "deviation": pytest.approx(0.1),  # of a sample: over n - 1
        "runs": 3,
    }
    assert lead_of(known) == pytest.approx(0.6 - 0.4)


def test_a_mean_of_fewer_runs_does_not_compare():
    known = candidates(SEEDS, rows_of(LUCK | {0.3: [0.95, None, 0.99]}))
    assert [len(one.rows) for one in known] == [3, 3, 2]
    assert [one.values["optim.lr"] for one in compared(known)] == [0.1, 0.2]
    assert best_of(known).values == {"optim.lr": 0.2} and lead_of(known) is None


def test_without_seeds_each_run_stands_for_itself():
    rows = [row | {"optim.lr": number} for number, row in enumerate(rows_of(LUCK))]
    plain = Sweep(recipe="demo", grid={"optim.lr": list(range(9))})
    best = best_of(candidates(plain, rows))
    assert best.objective == 0.9 and best.deviation is None and best_of([]) is None


def test_the_recipe_is_of_the_best_mean(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text("recipe: demo\ngrid: {optim.lr: [0.001, 0.002], run.seed: [4, 5]}")
    sweep, cells = load_sweep(str(file), [])
    worth = (0.1, 0.9, 0.6, 0.7)
    rows = [cell.values | {"run": cell.name, "objective": value}
            for cell, value in zip(cells, worth, strict=True)]  # fmt: skip
    text = best_recipe(sweep, cells, best_of(candidates(sweep, rows)), "skill")
    assert "skill 0.6500, mean of 2 runs, sample standard deviation 0.0707" in text
    recipe = yaml.safe_load(text)
    assert recipe["optim"]["lr"] == 0.002 and recipe["run"]["seed"] == 4


# ----- on the screen --------------------------------------------------------------------------------------


def shown(capsys, sweep, rows, reference=None):
    known = candidates(sweep, rows)
    metric = "val/skill" if reference is None else "val/reference_skill"
    result = {
        "objective": metric,
        "reference_mask": reference,
        "stopped_by": None,
        "uri": "/runs/sweeps/tiny",
        "best": best_of(known).told,
        "candidates": [one.told for one in known],
    }
    show(sweep, rows, result)
    return capsys.readouterr().out


def test_means_and_their_spread_are_printed(capsys):
    out = shown(capsys, SEEDS, rows_of(LUCK))
    means = [line.split() for line in out.splitlines() if line.startswith("0.")][9:]
    assert means == [
        ["0.1", "3", "0.4000", "0.4359"],
        ["0.2", "3", "0.6000", "0.1000"],
        ["0.3", "3", "0.3000", "0.1000"],
    ]
    assert (
        "Best: optim.lr=0.2 (0.6000, mean of 3 runs, sample standard deviation 0.1000, 0.2000 above the "
        "median of those that are finished)." in out
    )
    assert "says nothing of noise" not in out
    some = shown(capsys, SEEDS, rows_of(LUCK | {0.3: [0.95, None, 0.99]}))
    assert "left out, with fewer finished runs: 1." in some


def test_one_run_each_says_nothing_of_noise(capsys):
    sweep = Sweep(recipe="demo", grid={"optim.lr": [0.1, 0.2, 0.3]})
    out = shown(capsys, sweep, rows_of({lr: values[:1] for lr, values in LUCK.items()}))
    assert "one run each says nothing of noise between seeds" in out and "deviation" not in out


def test_losses_that_do_not_compare_are_not_printed(capsys):
    alike = shown(capsys, SEEDS, rows_of(LUCK)).splitlines()[0].split()
    assert alike == ["optim.lr", "run.seed", "run", "status", "val/skill", "AvgDist", "val/loss",
                     "steps"]  # fmt: skip
    masks = Sweep(recipe="demo", grid={"mask.unit": [8, 16]})
    rows = [row | {"mask.unit": 8} for row in rows_of(LUCK)[:1]]
    mask = {"strategy": "random", "unit": 16, "ratio": 0.6}
    head, row, *_ = shown(capsys, masks, rows, mask).splitlines()
    assert head.split()[3:] == ["val/reference_skill", "AvgDist", "val/reference_loss", "steps"]
    assert "0.7500" in row and "0.5000" not in row
    assert "val/loss" not in shown(capsys, masks, rows)


def test_what_is_as_good_as_the_best_is_said(capsys):
    out = shown(capsys, SEEDS, rows_of({0.1: [0.5] * 3, 0.2: [0.5] * 3, 0.3: [0.2] * 3}))
    assert "; as good: 1 more." in out
