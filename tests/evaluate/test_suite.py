"""The transfer suite through the function that Ray's tasks call, in this process."""

import csv
import json
import shutil
import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import mimray
from mimray.cli import main
from mimray.data.collections import COLLECTIONS
from mimray.errors import UserError
from mimray.evaluate import cells as module
from mimray.evaluate.cells import Draws, FinetuneCell, ProbeCell, run_cells
from mimray.evaluate.suite import find_sets, lay_out
from mimray.evaluate.table import table, write_failures, write_table
from mimray.evaluate.workers import Share
from mimray.report.suite import suite_bars
from tests.data.collection_fixtures import small
from tests.evaluate.conftest import QUICK, SMALL
from tests.evaluate.test_checkpoint import weights_file

pytestmark = pytest.mark.unit
SETS = ("dtd", "pets", "voc2007")
PARQUET = Path(mimray.__file__).parent / "photos"
NOTHING = Draws(lambda rows, title: b"", lambda rows, title: b"")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three real formats with few classes."""
    root = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        for name in SETS:
            patch.setitem(COLLECTIONS, name, small(name, root))
        yield root


def suite_of(weights, names, root, storage, seeds=(0,), words=()):
    found = find_sets(names and ",".join(map(str, names)), root and str(root))
    words = [*QUICK, "optim.batch=4", *words]
    return lay_out([str(w) for w in weights], found, seeds, "finetune_transfer", words, storage)


@pytest.fixture(scope="module")
def ran(pretrained, folder, sets, tmp_path_factory):
    """Two checkpoints on five sets, of which `cars` is missing."""
    storage = tmp_path_factory.mktemp("runs")
    names = [*SETS, "cars", folder, PARQUET]
    suite = suite_of([pretrained, "scratch"], names, sets, storage, words=SMALL)
    failures = run_cells(list(suite.cells), NOTHING, Share())
    return suite, failures, table(suite, failures)


def test_every_set_has_its_score(ran, folder):
    _, failures, rows = ran
    assert not failures
    found = {(row["checkpoint"], row["set"]): row for row in rows}
    assert {name for _, name in found} == {*SETS, "cars", folder.name, "photos"}
    for (checkpoint, name), row in found.items():
        if name == "cars":
            assert row["status"] == "missing" and row["mean"] is None
            assert "ai.stanford.edu" in row["reason"] and "devkit/cars_meta.mat" in row["reason"]
            continue
        assert row["status"] == "finished" and 0 <= row["mean"] <= 1 and row["spread"] is None
        assert row["kind"] == ("MIM" if checkpoint == "mim" else "from scratch")
    metrics = {name: row["metric"] for (_, name), row in found.items()}
    assert metrics["dtd"] == "top1" and metrics["pets"] == "mean_per_class"
    tests = {name: row["test"] for (_, name), row in found.items()}
    assert (tests["dtd"], tests["voc2007"], tests[folder.name], tests["photos"]) == (4, 20, 20, 120)
    assert found["mim", "voc2007"]["protocol"] == "linear probe"
    assert found["mim", "pets"]["protocol"] == "fine-tuned"
    assert ("scratch", "voc2007") not in found  # its features are of nothing learned


def test_the_score_is_that_of_the_set_s_metric(ran, monkeypatch):
    suite, _, rows = ran
    cell = next(c for c in suite.cells if (c.checkpoint, c.set) == ("mim", "pets"))
    record = json.loads((suite.place.parents[1] / cell.name / "run.json").read_text())
    row = next(r for r in rows if (r["checkpoint"], r["set"]) == ("mim", "pets"))
    assert row["scores"] == [record["final"]["val/mean_per_class"]]
    assert record["weights"].endswith("mim") and record["recipe"] == "transfer-pets"
    final = {"val/top1": 0.25, "val/top1_best": 0.3, "val/mean_per_class": 0.5}
    monkeypatch.setattr(module.RunFolder, "record", lambda _: record | {"final": final})
    assert cell.outcome().score == 0.5
    other = next(c for c in suite.cells if (c.checkpoint, c.set) == ("mim", "dtd"))
    record["recipe_digest"] = other.recipe.digest()
    assert (other.outcome().score, other.outcome().best) == (0.25, 0.3)


def test_it_is_rebuilt_from_the_records_and_nothing_runs_twice(ran, monkeypatch):
    suite, _, rows = ran
    assert table(suite, {}) == rows
    monkeypatch.setattr("mimray.train.driver.Driver.drive_here", None)
    monkeypatch.setattr("mimray.evaluate.extraction.Extraction.compute", None)
    assert run_cells(list(suite.cells), NOTHING, Share()) == {}


def test_its_files(ran):
    suite, _, rows = ran
    write_table(suite, rows, suite_bars)
    assert json.loads((suite.place / "table.json").read_text())["rows"] == rows
    assert pq.read_table(suite.place / "table.parquet").to_pylist() == rows
    with open(suite.place / "table.csv") as file:
        told = list(csv.DictReader(file))
    assert [(t["checkpoint"], t["set"]) for t in told] == [
        (r["checkpoint"], r["set"]) for r in rows
    ]
    assert float(told[0]["mean"]) == rows[0]["mean"]
    assert (suite.place / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_that_fails_leaves_the_others_and_says_why(pretrained, folder, sets, tmp_path):
    """One is refused before it begins, one breaks in training; the third goes on, as do seeds."""
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    shutil.rmtree(bad / "val" / "class3")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    suite = suite_of([pretrained], [bad, broken, "dtd"], sets, tmp_path / "runs", (0, 1))
    cells = list(suite.cells)

    def breaks(*_):
        raise module.MimrayError("the disk is full")

    object.__setattr__(cells[2], "run", breaks)
    failures = run_cells(cells, NOTHING, Share())
    assert set(failures) == {cells[0].name, cells[1].name, cells[2].name}
    rows = {row["set"]: row for row in table(suite, failures)}
    assert rows["bad"]["status"] == "failed" and rows["bad"]["scores"] == []
    assert "class 'class3'" in rows["bad"]["reason"] and "\n" not in rows["bad"]["reason"]
    assert rows["broken"]["status"] == "failed" and rows["broken"]["reason"] == "the disk is full"
    assert rows["broken"]["seeds"] == [1] and rows["broken"]["mean"] is not None
    dtd = rows["dtd"]
    assert dtd["status"] == "finished" and dtd["seeds"] == [0, 1]
    assert dtd["mean"] == statistics.mean(dtd["scores"])
    assert dtd["spread"] == statistics.stdev(dtd["scores"])
    write_failures(suite, failures)
    assert run_cells([cells[3]], NOTHING, Share()) == {}


def test_the_checkpoint_fits_the_recipe_and_the_command_line_wins(pretrained, folder, tmp_path):
    suite = suite_of([pretrained, "scratch"], [folder], None, tmp_path, words=["data.labels=50%"])
    for cell in suite.cells:
        assert isinstance(cell, FinetuneCell)
        model = cell.recipe.model
        assert (model.encoder, model.image_size, model.window) == ("vit_nano", 32, None)
        assert cell.recipe.speed.loader == "torch" and cell.recipe.data.labels == "50%"
    assert suite.cells[1].recipe.model.weights is None
    other = suite_of([pretrained], [folder], None, tmp_path, words=["model.image_size=64"])
    assert other.cells[0].recipe.model.image_size == 64
    assert other.name != suite.name


def test_what_a_task_reserves_is_what_it_uses(pretrained, folder, tmp_path):
    cell = suite_of([pretrained], [folder], None, tmp_path).cells[0]
    digest = cell.recipe.digest()
    for share, device, processes in (
        (Share(1), "cpu", 0),
        (Share(4), "cpu", 3),
        (Share(8, 1), "gpu", 8),
    ):
        placed = cell._placed(share)
        assert (placed.speed.device, placed.speed.loader_processes) == (device, processes)
        assert placed.digest() == digest
    assert Share(8, 1).options() == {"num_cpus": 8, "num_gpus": 1}


def test_names_follow_from_what_is_computed(pretrained, folder, sets, tmp_path):
    def names(*ask, **more):
        return {cell.name for cell in suite_of(*ask, tmp_path, **more).cells}

    first = names([pretrained], [folder], None, seeds=(0, 1))
    assert len(first) == 2
    assert names([pretrained], [folder, "dtd"], sets, seeds=(1,)) & first
    assert not names([pretrained], [folder], None, words=["optim.lr=1e-3"]) & first
    file = tmp_path / "weights.safetensors"
    before = names([weights_file(file, "vit_nano", 32)], [folder], None)
    assert not names([weights_file(file, "vit_nano", 32)], [folder], None) & before
    probe = suite_of([pretrained], ["voc2007"], sets, tmp_path).cells[0]
    assert isinstance(probe, ProbeCell) and probe.outcome().status == "waiting"


def test_the_suite_s_own_sets_in_the_papers_order(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    sets = find_sets(None, str(tmp_path))
    assert [one.name for one in sets] == list(COLLECTIONS)
    assert [one.name for one in sets if not one.missing] == ["cifar10"]


@pytest.mark.parametrize(
    ("names", "root", "says"),
    [
        ("dtdd", "/nowhere", "no data set 'dtdd'; did you mean dtd?"),
        ("dtd,cars", "/nowhere", r"get it from https.*\(and 1 more sets\)"),
        ("dtd", None, "--data: name the folder of all sets"),
        ("/a/birds,/b/birds", None, "two of them have one name"),
    ],
)
def test_sets_that_cannot_be_meant(names, root, says):
    with pytest.raises(UserError, match=says):
        find_sets(names, root)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run.seed=3"], "the suite sets run.seed itself"),
        (["model.image_size=33"], "image size 33 is not a multiple"),
        (["model.encoder=swin_nano", "model.image_size=96"], "weights of vit: embed 144"),
        (["optim.lrr=1"], "optim.lrr is not a setting; did you mean optim.lr"),
        (["--seeds", "0,x"], "--seeds 0,x: write them like 0,1,2"),
        (["--seeds", "1,1"], "--seeds 1,1: each once"),
        (["--recipe", "demo"], "is a recipe for pre-training"),
        (["--from", "/nowhere"], "/nowhere: no such file or folder"),
    ],
)
def test_a_user_s_mistakes(pretrained, folder, tmp_path, capsys, words, says):
    ask = ["evaluate", "suite", "semantic", "--from", str(pretrained), "--sets", str(folder)]
    assert main([*ask, "--storage", str(tmp_path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line and not list(tmp_path.iterdir())


def test_status_runs_nothing(pretrained, folder, tmp_path, capsys):
    ask = ["evaluate", "suite", "semantic", "--from", str(pretrained), "--sets", str(folder)]
    assert main([*ask, "--storage", str(tmp_path), "--seeds", "0", "--status", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["status"] == "waiting" and row["scores"] == []
    assert main([*ask, "--storage", str(tmp_path), "--seeds", "0", "--status"]) == 0
    assert "- (waiting)" in capsys.readouterr().out
