"""Trials from end to end in this process, with Tune left out, and what is made of them."""

import json
from contextlib import nullcontext

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.evaluate.cells import Draws, Quiet
from mimray.evaluate.workers import Share
from mimray.recipe import load_recipe
from mimray.report.accuracy import layer_accuracy
from mimray.report.curves import loss_curve
from mimray.study.placing import Plan
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.objective import objective_of, progress_metric
from mimray.study.sweeps.seeds import best_of, candidates
from mimray.study.sweeps.table import sweep_rows
from mimray.study.sweeps.trial import Trial
from mimray.train.resources import Node

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

TINY = """
name: tiny
recipe: demo
set:
  model.encoder: vit_nano
  model.image_size: 32
  model.window: null
  head.kind: linear
  speed.workers: 1
  optim.batch: 16
  speed.block_rows: 16
  schedule.length: 4it
  schedule.warmup: 1it
  run.validate_every: 2it
  run.log_every: 1it
  run.tracking: "off"
grid: {mask.unit: [8, 16], mask.ratio: [0.25, 0.5]}
"""
SHORT = """finetune:
  set: {schedule.length: 2it, schedule.warmup: 1it, run.validate_every: 1it, data.train: PHOTOS/train,
    data.val: PHOTOS/val}
"""
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A few of the shipped photos, of ten classes, in two splits."""
    folder = tmp_path_factory.mktemp("photos")
    for split, each in (("train", 4), ("val", 2)):
        source = open_source(f"builtin:photos/{split}")
        labels = source.labels()
        for label in range(10):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            rows = np.flatnonzero(labels == label)[:each]
            for row, data in zip(rows, source.read(rows), strict=True):
                (place / f"{row}.jpg").write_bytes(data)
    return folder


def open_sweep(tmp_path, photos, more):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY + more.replace("PHOTOS", str(photos)))
    data = [f"data.train={photos}/train", f"data.val={photos}/val"]
    words = [str(file), f"run.storage={tmp_path / 'runs'}", *data]
    sweep, cells = load_sweep(words[0], words[1:])
    return words, sweep, cells, objective_of(sweep, cells)


def run_trial(cell, cells, objective):
    told = []
    draws = Draws(loss_curve, layer_accuracy)
    plan = Plan(Share(), Share(), 1)
    Trial(cell, objective, progress_metric(cells), plan, draws).run(told.append)
    return told


def test_skill_under_one_mask_for_all(tmp_path, photos, capsys):
    words, sweep, cells, objective = open_sweep(
        tmp_path, photos, "reference_mask: {unit: 8, ratio: 0.5}\n"
    )
    for cell in cells[:3]:
        told = run_trial(cell, cells, objective)
        assert [result["progress"] for result in told] == [0.5, 1.0, 1.0]
        assert told[-1]["objective"] == told[-1]["score"] == objective.value(cell)
        before = cell.record()["starts"]
        assert run_trial(cell, cells, objective) == told  # finished: it only tells
        assert cell.record()["starts"] == before
    # a cell whose own mask is the reference has the same loss under both
    final = cells[1].record()["final"]
    assert final["val/reference_loss"] == final["val/loss"]
    assert final["val/reference_skill"] == final["val/skill"]
    other = cells[0].record()["final"]
    assert other["val/reference_loss"] != other["val/loss"]
    assert other["val/reference_fill_nearest"] == final["val/fill_nearest"]

    folder = SweepFolder(sweep, cells)
    rows = sweep_rows(sweep, cells, objective, folder)
    assert [row["status"] for row in rows] == ["finished"] * 3 + ["waiting"]
    best = best_of(candidates(sweep, rows))
    assert best.objective == max(objective.value(cell) for cell in cells[:3])
    distances = [row["avgdist_px"] for row in rows[:3]]
    assert distances == sorted(distances) and rows[0]["avgdist_px_at_192"] == 6 * distances[0]

    assert main(["sweep", *words, "--status", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["best"]["run"] == best.rows[0]["run"] and result["steps"] == 12
    assert result["objective"] == "val/reference_skill" and result["stopped_by"] is None
    assert main(["sweep", *words, "--status"]) == 0
    out = capsys.readouterr().out
    assert "Losses under masks of their own do not compare" in out and "Best: mask.unit=" in out


def test_a_reference_mask_changes_nothing_but_what_is_told(tmp_path, photos):
    _, _, cells, objective = open_sweep(tmp_path, photos, "")
    run_trial(cells[0], cells, objective)
    run = cells[0].recipe.run.model_copy(update={"name": "plain", "reference_mask": None})
    plain = cells[0].recipe.model_copy(update={"run": run})
    assert plain.digest() == cells[0].recipe.digest()
    from mimray.train.launch import launch
    from mimray.train.run_folder import RunFolder

    record, _ = launch(plain, Quiet(), loss_curve, here=True)
    assert not any("reference" in name for name in record["final"])
    with_it = cells[0].record()["final"]
    assert {n: with_it[n] for n in record["final"] if n != "images_per_s"} == {
        n: v for n, v in record["final"].items() if n != "images_per_s"
    }
    weights = [RunFolder.of(r).read(f"{record['checkpoint']}/model.safetensors")
               for r in (plain, cells[0].recipe)]  # fmt: skip
    assert weights[0] == weights[1] is not None


def test_fine_tuned_top1(tmp_path, photos):
    _, sweep, cells, objective = open_sweep(tmp_path, photos, f"objective: finetune\n{SHORT}")
    cell = cells[2]
    assert objective.value(cell) is None
    told = run_trial(cell, cells, objective)
    value = objective.value(cell)
    assert told[-1]["objective"] == value and 0.0 <= value <= 1.0
    (tuned,) = (tmp_path / "runs").glob(f"{cell.name}-finetune-*/run.json")
    record = json.loads(tuned.read_text())
    assert record["final"]["val/top1"] == value and cell.name in record["weights"]
    (row,) = (r for r in sweep_rows(sweep, cells, objective, SweepFolder(sweep, cells))
              if r["run"] == cell.name)  # fmt: skip
    assert row["status"] == "finished" and row["objective"] == value


def test_nearest_neighbours(tmp_path, photos):
    _, _, cells, objective = open_sweep(tmp_path, photos, "objective: knn\n")
    objective.check(cells)
    assert cells[0].recipe.run.reference_mask is None  # nobody asks for skill
    told = run_trial(cells[0], cells, objective)
    assert told[-1]["objective"] == objective.value(cells[0]) > 0.0
    assert objective.value(cells[1]) is None


def test_what_is_written(tmp_path, photos):
    from mimray.verbs.sweep import _write

    _, sweep, cells, objective = open_sweep(tmp_path, photos, "stop: {grace: 0.5}\n")
    for cell in cells[:2]:
        run_trial(cell, cells, objective)
    folder = SweepFolder(sweep, cells)
    folder.note_stopped(cells[2].name, 2, [[0.5, 0.1]])
    folder.note_failed(cells[3].name, "a reason")
    folder = SweepFolder(sweep, cells)  # as another start finds it
    rows, files = _write(sweep, cells, objective, folder)
    assert [row["status"] for row in rows] == ["finished", "finished", "ended", "failed"]
    assert rows[3]["reason"] == "a reason" and rows[2]["steps"] == 2
    place = tmp_path / "runs" / "sweeps" / "tiny"
    assert {"heat_map.png", "avgdist.png", "best.yaml", "table.csv"} <= set(files)
    for name in ("heat_map.png", "avgdist.png"):
        assert (place / name).read_bytes().startswith(PNG)
    table = pq.read_table(place / "table.parquet")
    assert table.column_names[:3] == ["mask.unit", "mask.ratio", "run"]
    assert table.column("status").to_pylist()[2] == "ended"
    told = json.loads((place / "table.json").read_text())
    assert told["stopped_by"] == "val/reference_skill" and told["steps"] == 10
    best = best_of(candidates(sweep, rows))
    recipe = load_recipe(str(place / "best.yaml"))
    chosen = next(cell for cell in cells if cell.name == best.rows[0]["run"])
    assert recipe.digest() == chosen.recipe.digest() and recipe.run.name is None
    assert yaml.safe_load((place / "best.yaml").read_text())["name"] == "tiny-best"
    # without the rule that ended it, it goes on
    for rule in ("", "stop: {grace: 0.6}\n"):
        _, plain, again, same = open_sweep(tmp_path, photos, rule)
        rows = sweep_rows(plain, again, same, SweepFolder(plain, again))
        assert rows[2]["status"] == "waiting"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("grid: {mask.unit: [8, 7]}", "cell mask.unit=7"),
        ("objective: knn\nknn: {train: /nowhere, val: /nowhere}", "/nowhere"),
        ("search: optuna\nsamples: 2", "search=optuna needs Optuna"),
        ("reference_mask: {unit: 6}", "reference_mask: mask unit 6"),
        ("name: ../x", "name='../x'"),
    ],
)
def test_bad_input_is_a_line_before_anything_starts(tmp_path, capsys, monkeypatch, more, says):
    monkeypatch.setattr("mimray.study.sweeps.choosing.find_spec", lambda name: None)
    monkeypatch.setattr("mimray.study.sweeps.tuner.run_trials", pytest.fail)
    file = tmp_path / "tiny.yaml"
    head = TINY.rpartition("grid:")[0] if more.startswith("grid") else TINY
    file.write_text(head.replace("name: tiny\n", "") + more)
    assert main(["sweep", str(file), f"run.storage={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line and not (tmp_path / "runs").exists()


def test_a_cluster_too_small_is_a_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mimray.train.cluster.ray_session", lambda workers: nullcontext(True))
    monkeypatch.setattr("mimray.train.resources.cluster_nodes", lambda: [Node("a", 4, 0)])
    monkeypatch.setattr("mimray.study.sweeps.tuner.run_trials", pytest.fail)
    (tmp_path / "tiny.yaml").write_text(TINY)
    words = [str(tmp_path / "tiny.yaml"), f"run.storage={tmp_path / 'runs'}"]
    assert main(["sweep", *words, "speed.cpus_per_worker=5"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "speed.cpus_per_worker=5: the largest host has 4 CPUs free" in line
    assert not (tmp_path / "runs").exists()


def test_pictures_of_a_cell_are_named_with_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("mimray.study.sweeps.tuner.run_trials", pytest.fail)
    file = tmp_path / "tiny.yaml"
    grid = "grid: {data.train: ['builtin:photos/train', /nowhere]}"
    file.write_text(TINY.rpartition("grid:")[0] + grid)
    words = [str(file), f"run.storage={tmp_path / 'runs'}", "data.val=builtin:photos/val"]
    assert main(["sweep", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "cell data.train=/nowhere: " in line and not (tmp_path / "runs").exists()
