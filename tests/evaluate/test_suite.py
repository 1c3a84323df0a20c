"""The transfer suite through the function that Ray's tasks call, in this process."""

import csv
import json
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import mimray
from mimray.cli import main
from mimray.data.collections import COLLECTIONS
from mimray.errors import UserError
from mimray.evaluate import cells as module
from mimray.evaluate import suite as module_of_suite
from mimray.evaluate.cells import Draws, FinetuneCell, ProbeCell, run_cells
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.suite import lay_out
from mimray.evaluate.table import table, unlike, write_failures, write_table
from mimray.evaluate.transfer_sets import find_sets
from mimray.evaluate.workers import Share
from mimray.report.suite import caption, suite_bars
from mimray.verbs.evaluate import suite as module_of_verb
from tests.data.collection_fixtures import cog, put, small
from tests.evaluate.conftest import QUICK, SMALL
from tests.evaluate.test_checkpoint import untold_file, weights_file

pytestmark = pytest.mark.slow
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


@pytest.fixture
def own_sets(sets, tmp_path):
    """A copy of those, to be changed."""
    return Path(shutil.copytree(sets, tmp_path / "sets"))


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
    # features from scratch have learned nothing
    untrained = found.pop(("scratch", "voc2007"))
    assert untrained["status"] == "left out" and "probed" in untrained["reason"]
    for (checkpoint, name), row in found.items():
        if name == "cars":
            assert row["status"] == "missing" and row["mean"] is None
            assert row["encoder"] == "vit_nano"
            assert "ai.stanford.edu" in row["reason"] and "devkit/cars_meta.mat" in row["reason"]
            continue
        assert row["status"] == "finished" and 0 <= row["mean"] <= 1 and row["spread"] is None
        assert row["kind"] == ("MIM" if checkpoint == "mim" else "from scratch")
        assert (row["encoder"], row["image_size"], row["labels"]) == ("vit_nano", 32, 1.0)
    metrics = {name: row["metric"] for (_, name), row in found.items()}
    assert metrics["dtd"] == "top1" and metrics["pets"] == "mean_per_class"
    tests = {name: row["test"] for (_, name), row in found.items()}
    assert (tests["dtd"], tests["voc2007"], tests[folder.name], tests["photos"]) == (4, 20, 20, 120)
    assert found["mim", "voc2007"]["protocol"] == "linear probe"
    assert found["mim", "pets"]["protocol"] == "fine-tuned"
    assert unlike(rows) is None


def test_the_score_is_that_of_the_set_s_metric(ran, monkeypatch):
    suite, _, rows = ran
    cell = next(c for c in suite.cells if (c.checkpoint, c.set) == ("mim", "pets"))
    record = json.loads((suite.place.parents[1] / cell.name / "run.json").read_text())
    row = next(r for r in rows if (r["checkpoint"], r["set"]) == ("mim", "pets"))
    assert row["scores"] == [record["final"]["val/mean_per_class"]]
    assert record["weights"].startswith(cell.recipe.model.weights)
    assert record["recipe"] == "transfer-pets"
    final = {"val/top1": 0.25, "val/top1_best": 0.3, "val/mean_per_class": 0.5}
    monkeypatch.setattr(module.RunFolder, "record", lambda _: record | {"final": final})
    assert (cell.outcome().score, cell.outcome().best) == (0.5, None)  # of an older run
    final["val/mean_per_class_best"] = 0.6
    assert (cell.outcome().score, cell.outcome().best) == (0.5, 0.6)
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


def test_a_best_of_which_one_run_knows_nothing(pretrained, folder, tmp_path):
    suite = suite_of([pretrained], [folder], None, tmp_path, (0, 1, 2))
    for cell, best in zip(suite.cells, (0.75, None, 0.5), strict=True):
        outcome = module.Outcome("finished", 0.5, best, 20)
        object.__setattr__(cell, "outcome", lambda outcome=outcome: outcome)
    (row,) = table(suite, {})
    assert row["mean"] == 0.5 and row["best_mean"] is None
    object.__setattr__(suite.cells[1], "outcome", suite.cells[0].outcome)
    assert table(suite, {})[0]["best_mean"] == pytest.approx(2 / 3)


def test_records_that_are_damaged_show_up_as_failed(pretrained, folder, sets, tmp_path):
    suite = suite_of([pretrained], [folder, "voc2007"], sets, tmp_path)
    tuned, probe = (cell.name for cell in suite.cells)
    for file in (tmp_path / tuned / "run.json", tmp_path / "evaluate" / probe / "result.json"):
        file.parent.mkdir(parents=True)
        file.write_text("{")
    rows = table(suite, {})
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "cannot be read" in rows[0]["reason"] and "remove it" in rows[1]["reason"]


def test_a_share_of_labels_leaves_out_what_has_several(pretrained, sets, tmp_path):
    words = ["data.labels=50%"]
    suite = suite_of([pretrained], ["voc2007", "dtd"], sets, tmp_path, words=words)
    assert [cell.set for cell in suite.cells] == ["dtd"]
    voc, dtd = table(suite, {})
    assert (voc["status"], voc["mean"], voc["labels"]) == ("left out", None, 0.5)
    assert "of which data.labels=50% takes no share" in voc["reason"]
    assert (dtd["status"], dtd["labels"]) == ("waiting", 0.5)
    whole = suite_of([pretrained], ["voc2007"], sets, tmp_path, words=["data.labels=100%"])
    assert len(whole.cells) == 1


def test_checkpoints_that_differ_are_told(pretrained, folder, tmp_path):
    file = weights_file(tmp_path / "swin.safetensors", "swin_nano", 96, 6)
    suite = suite_of([pretrained, file], [folder], None, tmp_path)
    rows = table(suite, {})
    assert unlike(rows) == (
        "not under one protocol: checkpoints differ in encoder (mim vit_nano, swin swin_nano) "
        "and image size (mim 32 px, swin 224 px)"
    )
    assert unlike(rows) in caption(rows)
    write_table(suite, rows, suite_bars)
    assert json.loads((suite.place / "table.json").read_text())["unlike"] == unlike(rows)


def test_bars_show_what_does_not_compare(monkeypatch):
    def row(set_, protocol, status, mean, **more):
        same = {"checkpoint": "mim", "encoder": "vit_nano", "image_size": 32, "metric": "top1"}
        found = {"set": set_, "protocol": protocol, "status": status, "mean": mean}
        return same | {"spread": None} | found | more

    rows = [
        row("dtd", "fine-tuned", "finished", 0.5, spread=0.1),
        row("cars", "fine-tuned", "failed", 0.75),
        row("pets", "fine-tuned", "waiting", None),
        row("voc2007", "linear probe", "finished", 0.25, metric="map11"),
    ]
    notes = ["* linear probe of frozen features", "hatched: not all seeds are finished"]
    assert caption(rows) == notes
    assert caption(rows[:1]) == []
    monkeypatch.setattr("mimray.report.suite.finished", lambda axes: axes)
    axes = suite_bars(rows, "title")
    assert [bar.get_hatch() or "" for bar in axes.patches] == ["", "////", "", ""]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([50.0, 75.0, math.nan, 25.0], nan_ok=True)
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert [name.partition("\n")[0] for name in names] == ["dtd", "cars", "pets", "voc2007 *"]
    assert axes.figure.get_supxlabel() == "; ".join(notes)
    assert [text.get_text() for text in axes.texts] == ["waiting"]  # no bar is no score of 0


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
        (Share(4), "cpu", 1),
        (Share(8, 1), "gpu", 7),
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


def test_a_probe_of_other_pictures_is_another_one(pretrained, own_sets, tmp_path):
    def name():
        return suite_of([pretrained], ["voc2007"], own_sets, tmp_path).cells[0].name

    first = name()
    assert name() == first
    marks = own_sets / "VOCdevkit/VOC2007/ImageSets/Main/cat_test.txt"
    text = marks.read_text()
    marks.write_text(text.replace("-1\n", " 0\n", 1))
    assert name() != first
    marks.write_text("nothing")  # the cell says so, when it runs
    suite = suite_of([pretrained], ["voc2007"], own_sets, tmp_path)
    failures = run_cells(list(suite.cells), NOTHING, Share())
    (row,) = table(suite, failures)
    assert row["status"] == "failed" and "cat_test.txt" in row["reason"]


def test_a_fine_tuning_of_other_pictures_is_another_one(pretrained, own_sets, tmp_path):
    """So a cell that was stopped does not fail for ever once its pictures were mended."""
    first = suite_of([pretrained], ["dtd"], own_sets, tmp_path).cells[0].name
    assert suite_of([pretrained], ["dtd"], own_sets, tmp_path).cells[0].name == first
    picture = next((own_sets / "dtd/images").rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b" ")
    assert suite_of([pretrained], ["dtd"], own_sets, tmp_path).cells[0].name != first


def test_a_probe_scored_otherwise_is_another_one(pretrained, sets, tmp_path, monkeypatch):
    first = suite_of([pretrained], ["voc2007"], sets, tmp_path).cells[0].name
    monkeypatch.setattr(module_of_suite, "FORMAT", 0)
    assert suite_of([pretrained], ["voc2007"], sets, tmp_path).cells[0].name != first


def test_from_scratch_nothing_was_pre_trained(folder, tmp_path):
    """So the windows of a pre-training at another size scale nothing."""
    file = weights_file(tmp_path / "v2.safetensors", "swinv2_nano", 96, 6)
    checkpoint = open_checkpoint(file, image_size=96)
    resized = replace(checkpoint, pretrained_windows=(6, 6, 3, 3))
    settings = module_of_suite._models({"v2": resized, "scratch": None})
    assert "model.pretrained_windows=[6, 6, 3, 3]" in settings["v2"]
    assert {"model.pretrained_windows=null", "model.weights=null"} <= set(settings["scratch"])


def test_windows_that_nobody_told_are_not_guessed(folder, sets, tmp_path):
    """Neither for a fine-tuning nor for a probe."""
    file = untold_file(tmp_path / "v2.safetensors")
    for names in ([folder], ["voc2007"]):
        with pytest.raises(UserError, match=r"windows \(6, 6, 4\); name these or others"):
            suite_of([file], names, sets, tmp_path, words=["model.image_size=64"])
        told = ["model.image_size=64", "model.pretrained_windows=[8, 8, 6]"]
        (cell,) = suite_of([file], names, sets, tmp_path, words=told).cells
    assert cell.question.checkpoint.pretrained_windows == (8, 8, 6)


def test_a_checkpoint_without_its_last_layers_is_no_row(folder, tmp_path):
    """Its cells would build the whole encoder."""
    run = weights_file(tmp_path / "model.safetensors", "vit_nano", 32, finetune=True, drop_layers=2)
    (tmp_path / "run.json").write_text(json.dumps({"recipe_digest": "r", "uid": "u"}))
    model = {"encoder": "vit_nano", "image_size": 32, "drop_layers": 2, "drop_from": "last"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"task": "classify", "model": model}))
    with pytest.raises(UserError, match=r"with model\.drop_layers=2, and whole encoders"):
        suite_of([run], [folder], None, tmp_path)


def test_a_cell_is_printed_with_its_spread(pretrained, folder, tmp_path, capsys, monkeypatch):
    suite = suite_of([pretrained], [folder], None, tmp_path, (0, 1))
    outcomes = iter((0.5, 0.25) * 2)
    found = lambda _: module.Outcome("finished", next(outcomes), None, 20)  # noqa: E731
    monkeypatch.setattr(FinetuneCell, "outcome", found)
    module_of_verb._print(suite, table(suite, {}))
    out = capsys.readouterr().out
    assert "37.50 ± 17.68" in out and "20 pictures" in out  # of 50 and 25, by n - 1
    monkeypatch.setattr(FinetuneCell, "outcome", lambda cell: waiting_but(cell, 0))
    module_of_verb._print(suite, table(suite, {}))
    assert "50.00 (waiting)" in capsys.readouterr().out


def waiting_but(cell, seed):
    done = module.Outcome("finished", 0.5, None, 20)
    return done if cell.seed == seed else module.Outcome("waiting")


def test_the_suite_s_own_sets_in_the_papers_order(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    sets = find_sets(None, str(tmp_path))
    assert [one.name for one in sets] == list(COLLECTIONS)
    assert [one.name for one in sets if not one.missing] == ["cifar10"]


@pytest.mark.parametrize("file", ["cog_l2_train.txt", "cog_l2_test.txt"])
def test_a_level_without_its_lists_is_missing_beside_the_others(tmp_path, file):
    """All levels share a folder."""
    for level in range(1, 4):
        cog(tmp_path, 2, level)
    (tmp_path / "cog" / file).unlink()
    first, second, third = find_sets("cog_l1,cog_l2,cog_l3", str(tmp_path))
    assert first.missing is None and third.missing is None
    assert file in second.missing and "europe.naverlabs.com" in second.missing


@pytest.mark.parametrize("name", [n for n, one in COLLECTIONS.items() if one.lists])
def test_lists_that_come_apart_from_the_pictures(tmp_path, name):
    collection = small(name, tmp_path)
    assert collection.missing(tmp_path) is None
    for path in collection.lists:
        file = tmp_path / collection.folders[0] / path
        data = file.read_bytes()
        file.unlink()
        assert str(file) in collection.missing(tmp_path)
        file.write_bytes(data)


def test_other_pictures_by_any_uri(sets, tmp_path, monkeypatch):
    """What cannot be taken is named, and the rest is not held up."""
    monkeypatch.chdir(sets)
    single = tmp_path / "one/cat"
    single.mkdir(parents=True)
    put(single / "1.jpg", 0, 0)
    names = f"{PARQUET},collection:dtd:.,builtin:nothing,{single.parent},/no/where"
    good, dtd, unknown, one, nowhere = find_sets(names, None)
    same, _ = find_sets("builtin:photos/train,dtd", str(sets))
    assert good.missing is None and good.digest
    uri = f"collection:dtd:{sets}"
    assert (dtd.name, dtd.train, dtd.val, dtd.missing) == ("dtd", uri, uri, None)
    assert dtd == find_sets("dtd", str(sets))[0]
    assert same.train == "builtin:photos/train" and "are the same" in same.missing
    assert unknown.train == "builtin:nothing" and "builtin:nothing" in unknown.missing
    assert f"{single.parent} are the same pictures" in one.missing
    assert "/no/where: no such file or folder" in nowhere.missing


def test_a_lone_uri_that_cannot_be_opened(pretrained, tmp_path, capsys):
    ask = ["evaluate", "suite", "semantic", "--from", str(pretrained), "--sets"]
    for name in ("/no/where", "collection:dtd:/no/where", "builtin:nothing"):
        assert main([*ask, name, "--storage", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "/no/where" in line or name in line


@pytest.mark.parametrize(
    ("names", "root", "says"),
    [
        ("collection:dtd", None, "write it like collection:dtd:/folder"),
        ("collection:dtdd:/x", None, "no data set 'dtdd'; did you mean dtd?"),
        ("dtdd", "/nowhere", "no data set 'dtdd'; did you mean dtd?"),
        ("dtd,cars", "/nowhere", "--data /nowhere: there is no such folder"),
        ("dtd,cars,pets", ".", r"get it from https.*\(nor are cars, pets there\)"),
        ("dtd", None, "--data: name the folder of all sets"),
        ("/a/birds,/b/birds", None, "two of them have one name"),
        ("dtd,,cars", "/nowhere", "one of the names is empty"),
    ],
)
def test_sets_that_cannot_be_meant(names, root, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        find_sets(names, root)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run.seed=3"], "the suite sets run.seed itself"),
        (
            ["data.subset=10%"],
            "data.subset=10%: leave it out; a suite trains on a share of each class",
        ),
        (["model.pretrained_windows=[6, 6]"], "vit_nano is no SwinV2"),
        (["model.image_size=100000000"], "less than or equal to 4096"),
        (["model.image_size=33"], "image size 33 is not a multiple"),
        (["model.encoder=swin_nano", "model.image_size=96"], "weights of vit"),
        (["optim.lrr=1"], "optim.lrr is not a setting; did you mean optim.lr"),
        (["model.window=7"], "vit_nano has no windows"),
        (["model.image_size=abc"], "model.image_size='abc'"),
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


@pytest.mark.parametrize(
    ("weights", "words", "says"),
    [
        ("scratch", [], "nothing is left to run: voc2007 from scratch: "),
        ("mim", ["data.labels=10%"], "nothing is left to run: voc2007: its pictures have several"),
        ("mim", ["model.window=7"], "vit_nano has no windows"),
        ("mim", ["model.image_size=33"], "image size 33 is not a multiple"),
    ],
)
def test_a_suite_of_several_labels_only(pretrained, sets, tmp_path, capsys, weights, words, says):
    given = str(pretrained) if weights == "mim" else weights
    ask = ["evaluate", "suite", "semantic", "--from", given, "--sets", "voc2007,cars"]
    ask += ["--data", str(sets), "--storage", str(tmp_path)]
    assert main([*ask, *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line and not list(tmp_path.iterdir())


def test_settings_of_fine_tuning_are_checked_beside_a_probe(pretrained, sets, tmp_path):
    words = ["augment.randaugment=rand-x9"]
    with pytest.raises(UserError, match="rand-x9"):
        suite_of([pretrained], ["voc2007", "dtd"], sets, tmp_path, words=words)


def test_status_runs_nothing(pretrained, folder, tmp_path, capsys):
    ask = ["evaluate", "suite", "semantic", "--from", str(pretrained), "--sets", str(folder)]
    assert main([*ask, "--storage", str(tmp_path), "--seeds", "0", "--status", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["status"] == "waiting" and row["scores"] == []
    assert main([*ask, "--storage", str(tmp_path), "--seeds", "0", "--status"]) == 0
    assert "- (waiting)" in capsys.readouterr().out
