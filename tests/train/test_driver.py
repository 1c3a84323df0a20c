"""The driver's parts that need no Ray: run folder, checkpoints, layout, console, sweep."""

import io
import json
import os
from pathlib import Path

import pytest
import torch

from mimray.errors import RunFailed, UserError
from mimray.optim import build_optimizer
from mimray.recipe import Optim, Speed, load_recipe
from mimray.train import checkpoint, manifest
from mimray.train.console import Console, duration
from mimray.train.resources import Node, lay_out
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(str(tmp_path / "run"))
    folder.check_free()
    folder.make()
    return folder


def fails(*_):
    raise OSError("No space left on device")


class TestRunFolder:
    def test_rows_after_a_step_are_forgotten_and_a_torn_line_is_left_out(self, run):
        run.append_rows([{"step": k, "train/loss": 1.0 / k} for k in (1, 2, 3)])
        with open(run.file("metrics.jsonl"), "ab") as file:
            file.write(b'{"step": 4, "tra')
        assert [row["step"] for row in run.rows()] == [1, 2, 3]
        run.keep_rows_until(2)
        assert [row["step"] for row in run.rows()] == [1, 2]

    def test_half_a_row_on_a_full_disk_garbles_nothing(self, run, monkeypatch):
        run.append_rows([{"step": 1}])
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="No space left"):
            run.append_rows([{"step": 2}])
        monkeypatch.undo()
        run.append_rows([{"step": 2}])
        assert [row["step"] for row in run.rows()] == [1, 2]

    def test_what_is_not_finite_becomes_null(self, run):
        run.append_rows([{"step": 1, "train/loss": float("nan"), "x": [float("inf")]}])
        assert run.rows() == [{"step": 1, "train/loss": None, "x": [None]}]

    def test_looking_leaves_nothing_and_somebody_elses_folder_is_refused(self, tmp_path):
        RunFolder(str(tmp_path / "a" / "b")).check_free()
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "mine.jpg").touch()
        with pytest.raises(UserError, match=r"is no run \(it holds mine.jpg\)"):
            RunFolder(str(tmp_path / "photos")).check_free()

    def test_a_torn_record_is_one_line(self, run):
        run.write("run.json", b'{"status": ')
        with pytest.raises(UserError, match=r"run.json cannot be read"):
            run.record()


def save(run, step, model, optimizer, loop, keep, criterion=None):
    saver = Saver(run, keep)
    saver.save(step, model, optimizer, loop, criterion)
    saver.close(step)
    assert saver.done == [(step, manifest.name_of(step))]


class TestCheckpoint:
    @pytest.fixture
    def parts(self):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = build_optimizer(model, Optim())
        for _ in range(2):
            model(torch.randn(4, 3)).sum().backward()
            optimizer.step()
        return model, optimizer

    def test_what_is_saved_comes_back(self, run, parts):
        model, optimizer = parts
        save(run, 2, model, optimizer, {"step": 2}, keep=2)
        other = torch.nn.Linear(3, 2)
        loaded = build_optimizer(other, Optim())
        assert checkpoint.load(run, 2, other, loaded) == {"step": 2}
        assert torch.equal(other.weight, model.weight)
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            for name, value in optimizer.state[ours].items():
                assert torch.equal(value, loaded.state[theirs][name]), name

    def test_the_newest_are_kept(self, run, parts):
        for step in (1, 2, 3):
            save(run, step, *parts, {}, keep=2)
        assert checkpoint.newest(run) == 3
        assert not run.read("checkpoints/step-00000001/manifest.json")
        assert run.read("checkpoints/step-00000002/manifest.json")

    @pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest", "no manifest"])
    def test_a_damaged_one_is_passed_over_with_a_word(self, run, parts, damage, caplog, tmp_path):
        for step in (1, 2):
            save(run, step, *parts, {}, keep=2)
        weights = tmp_path / "run/checkpoints/step-00000002/model.safetensors"
        manifest = weights.with_name("manifest.json")
        data = bytearray(weights.read_bytes())
        if damage == "flip":
            data[-1] ^= 1
            weights.write_bytes(data)
        elif damage == "cut":
            weights.write_bytes(data[:-4])
        elif damage == "missing":
            weights.unlink()
        elif damage == "manifest":
            manifest.write_text("{")
        else:
            manifest.unlink()
        assert checkpoint.verified(run) == 1
        assert "step-00000002 is not complete" in caplog.text
        assert checkpoint.newest(run) == 1  # it is set aside: whoever looks next agrees

    def test_a_torn_one_of_a_later_step_does_not_cost_the_one_just_saved(self, run, parts):
        save(run, 10, *parts, {}, keep=1)
        run.filesystem.create_dir(run.file("checkpoints/step-00000020"))
        save(run, 14, *parts, {}, keep=1)
        assert checkpoint.newest(run) == 14
        assert not run.read("checkpoints/step-00000010/manifest.json")

    def test_the_best_by_validation_loss_is_kept_besides(self, run, parts):
        for step, loss in [(1, 0.5), (2, 0.4), (3, None), (4, 0.45), (5, None)]:
            save(run, step, *parts, {}, keep=1, criterion=loss)
        assert [s for s in range(1, 6) if run.read(f"{manifest.name_of(s)}/manifest.json")] == [
            2,
            5,
        ]

    def test_a_diverged_loss_is_no_best_one(self, run, parts):
        for step, loss in [(1, 0.3), (2, float("nan")), (3, float("nan")), (4, float("nan"))]:
            save(run, step, *parts, {}, keep=1, criterion=loss)
        assert [s for s in range(1, 5) if run.read(f"{manifest.name_of(s)}/manifest.json")] == [
            1,
            4,
        ]

    def test_torn_ones_do_not_count_as_kept(self, run, parts):
        save(run, 1, *parts, {}, keep=2)
        run.filesystem.create_dir(run.file(manifest.name_of(2)))
        save(run, 3, *parts, {}, keep=2)
        assert run.read(f"{manifest.name_of(1)}/manifest.json")
        assert not (Path(run.path) / manifest.name_of(2)).exists()

    def test_a_deletion_that_fails_leaves_a_checkpoint_that_counts(self, run, parts, monkeypatch):
        def fail(*_):
            raise OSError("busy")

        monkeypatch.setattr(checkpoint, "prune", fail)
        save(run, 1, *parts, {}, keep=1)
        assert checkpoint.verified(run) == 1

    def test_the_safetensors_library_reads_what_is_written(self, run, parts, tmp_path):
        from safetensors.torch import load_file

        model, optimizer = parts
        model.register_buffer("flags", torch.tensor([True, False, True]))
        model.register_buffer("in_bf16", torch.ones(3, 1, dtype=torch.bfloat16))
        model.register_buffer("nothing", torch.empty(0, 2))
        save(run, 1, model, optimizer, {}, keep=1)
        read = load_file(tmp_path / "run/checkpoints/step-00000001/model.safetensors")
        assert read.keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype

    def test_training_on_does_not_reach_a_checkpoint_that_is_being_written(self, run, parts):
        model, optimizer = parts
        saver, before = Saver(run, 1), model.weight.detach().clone()
        saver.save(1, model, optimizer, {}, None)
        with torch.no_grad():
            model.weight.add_(1)
        saver.close(1)
        other = torch.nn.Linear(3, 2)
        checkpoint.load(run, 1, other, build_optimizer(other, Optim()))
        assert torch.equal(other.weight, before)

    def test_a_full_disk_leaves_the_one_before_and_fails_at_the_end_only(self, run, parts, caplog):
        save(run, 1, *parts, {}, keep=1)
        saver = Saver(run, 1)
        run.write(manifest.name_of(2), b"in the way of the folder")
        saver.save(2, *parts, {}, None)
        with pytest.raises(RunFailed, match=r"step 2 could not be written .* goes on"):
            saver.close(2)
        assert checkpoint.newest(run) == 1 and "step 2 could not be written" in caplog.text

    def test_none_is_none(self, run):
        assert checkpoint.newest(run) is None


class TestLayout:
    def test_two_trainers_fit_two_cpus_by_halves(self):
        assert lay_out(Speed(workers=2), [Node("a", 2, 0)]).cpus_per_worker == 0.5

    def test_whole_cpus_where_there_are_enough(self):
        layout = lay_out(Speed(workers=2), [Node("a", 2, 0), Node("b", 2, 0)])
        assert (layout.cpus_per_worker, layout.use_gpu) == (1.0, False)

    def test_halves_on_two_hosts_of_one_cpu_leave_no_whole_one(self):
        with pytest.raises(UserError, match="one whole CPU free"):
            lay_out(Speed(workers=2, cpus_per_worker=0.5), [Node("a", 1, 0), Node("b", 1, 0)])

    def test_gpus_are_used_when_there_are_enough(self):
        assert lay_out(Speed(workers=2), [Node("a", 8, 2)]).use_gpu
        assert not lay_out(Speed(workers=3), [Node("a", 8, 0)]).use_gpu
        assert not lay_out(Speed(workers=3, device="cpu"), [Node("a", 8, 2)]).use_gpu
        with pytest.raises(UserError, match=r"set speed.workers=2, or speed.device=cpu"):
            lay_out(Speed(workers=3), [Node("a", 8, 2)])
        with pytest.raises(UserError, match="the cluster has 2"):
            lay_out(Speed(workers=3, device="gpu"), [Node("a", 8, 2)])


ROW = {"step": 5, "train/loss": 0.5, "train/lr": 1e-3, "speed/images_per_s": 10.0,
       "speed/peak_memory_gib": 1.0}  # fmt: skip


class TestConsole:
    def test_a_pipe_gets_a_line_every_few_seconds_and_the_last(self):
        out = io.StringIO()
        console = Console(out)
        for step in range(1, 11):
            console.row(ROW | {"step": step}, 10)
        lines = out.getvalue().splitlines()
        assert [line.split("  ")[0] for line in lines] == ["step 1/10", "step 10/10"]

    def test_a_terminal_gets_one_live_line(self):
        out = io.StringIO()
        out.isatty = lambda: True
        console = Console(out)
        console.row(ROW, 10)
        console.row(ROW | {"step": 6, "train/loss": None}, 10)
        assert "\n" not in out.getvalue()
        assert out.getvalue().count("\r") == 2
        assert "loss not finite" in out.getvalue()

    @pytest.mark.parametrize(("seconds", "text"), [(7.6, "8 s"), (125, "2:05"), (11400, "3:10:00")])
    def test_durations_as_people_read_them(self, seconds, text):
        assert duration(seconds) == text


class TestSweep:
    def test_cells_are_recipes_with_names_of_their_own(self, tmp_path):
        from mimray.study.sweeps.grid import load_sweep

        file = tmp_path / "grid.yaml"
        file.write_text("{recipe: demo, grid: {mask.unit: [8, 16], mask.ratio: [0.4, 0.6]}}")
        sweep, cells = load_sweep(str(file), [f"run.storage={tmp_path}"])
        assert sweep.name == "grid"
        assert [tuple(c.values.values()) for c in cells] == [
            (8, 0.4),
            (8, 0.6),
            (16, 0.4),
            (16, 0.6),
        ]
        assert len({c.recipe.run_name() for c in cells}) == 4
        assert {c.record() for c in cells} == {None}
        done = cells[0]
        RunFolder.of(done.recipe).write(
            "run.json",
            json.dumps(
                {"status": "finished", "recipe_digest": "x", "final": {"val/skill": 0.1}}
            ).encode(),
        )
        record = done.record()
        assert record is not None and record["final"]["val/skill"] == 0.1

    def test_a_cell_that_does_not_fit_is_named(self, tmp_path):
        from mimray.study.sweeps.grid import load_sweep

        file = tmp_path / "grid.yaml"
        file.write_text("{recipe: demo, grid: {mask.unit: [8, 7]}}")
        with pytest.raises(UserError, match=r"cell mask.unit=7: mask.unit=7 does not divide"):
            load_sweep(str(file), [])

    def test_the_shipped_sweep_fits(self):
        from mimray.study.sweeps.grid import load_sweep

        assert len(load_sweep("tuning/mask_grid.yaml", [])[1]) == 9


def test_a_diverged_run_can_be_printed(capsys):
    from mimray.train.record import speed_of
    from mimray.train.tasks.pretraining import Pretraining
    from mimray.verbs.pretrain import _print_table, summary

    rows = [{"attempt": 0, "val/loss": None, "speed/seconds": 1.0, "speed/images_per_s": 3.0}]
    record = {
        "name": "r",
        "steps": 1,
        "checkpoint": None,
        "damaged": [],
        "final": Pretraining(load_recipe("demo")).final(rows) | speed_of(rows),
    }
    _print_table(summary("/runs/r", record), record, False, "off", "L1 on hidden pixels")
    assert "validation loss" in capsys.readouterr().out


def test_other_training_pictures_drop_the_recipes_validation_pictures():
    assert load_recipe("demo").data.val == "builtin:photos/val"
    assert load_recipe("demo", ["data.train=/photos"]).data.val is None
    assert load_recipe("demo", ["data.train=/photos", "data.val=/val"]).data.val == "/val"


@pytest.mark.parametrize(("warmup", "says"), [("13it", True), ("12it", False), ("0ep", False)])
def test_a_warmup_that_is_longer_than_the_run_is_said(warmup, says):
    from mimray.train.driver import Driver
    from mimray.train.prepare import open_data

    recipe = load_recipe("demo", ["schedule.length=12it", f"schedule.warmup={warmup}"])
    out = io.StringIO()
    Driver(open_data(recipe), None, Console(out), None)._say_what_it_is()
    assert ("schedule.warmup=13it is longer than the run (12 steps)" in out.getvalue()) == says
