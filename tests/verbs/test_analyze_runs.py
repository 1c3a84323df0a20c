"""`analyze ridge` and `analyze losses`, on runs written by hand: what they read, compare and refuse."""

import json

import pyarrow.parquet as pq
import pytest

from mimray.cli import main
from mimray.recipe import load_finetune_recipe, load_recipe
from mimray.study.sweeps.ridge import RIDGE, read_ridge
from mimray.train.run_folder import to_json

pytestmark = pytest.mark.unit
PNG = b"\x89PNG"


def write(storage, name, recipe, **record):
    """A finished run's folder, without weights."""
    place = storage / name
    place.mkdir(parents=True)
    (place / "recipe.yaml").write_text(recipe.to_yaml())
    whole = {"name": name, "recipe": recipe.name, "recipe_digest": recipe.digest(), "steps": 10}
    whole |= {"status": "finished", "final": {}} | record
    (place / "run.json").write_text(json.dumps(whole))
    return place


def pretrained(storage, unit, ratio, distance, skill=0.1, size=96, **more):
    words = [f"mask.unit={unit}", f"mask.ratio={ratio}", f"model.image_size={size}"]
    mask = {"hidden_ratio": ratio, "average_distance": distance}
    final = {"val/skill": skill, "val/loss": 0.5}
    record = {"kind": "pretrain", "mask": mask, "final": final} | more
    return write(storage, f"m{unit}-{ratio}", load_recipe("demo", words), **record)


def finetuned(storage, parent, top1, seed=0, recipe="finetune_demo", words=(), **final):
    given = [f"model.weights={parent}", f"run.seed={seed}", *words]
    own = load_finetune_recipe(recipe, given)
    return write(
        storage, own.run_name(), own, kind="finetune", weights=str(parent),
        final={"val/top1": top1} | final,
    )  # fmt: skip


def analysed(storage, name, run, distance, time, size=96, class_token="drop", pictures=100):
    """What `analyze attention` leaves."""
    model = {
        "weights": str(run),
        "image_size": size,
        "window": load_recipe("demo").model.window,
        "summary": {"attention_distance_px": distance},
    }
    place = storage / "analyses" / name
    place.mkdir(parents=True)
    options = {"class_token": class_token}
    record = {"kind": "attention", "models": [model], "time": time, "options": options}
    record["pictures"] = pictures
    (place / "result.json").write_text(json.dumps(record))


@pytest.fixture
def sweep(tmp_path):
    """Four masks at 96 px; two of them fine-tuned on two seeds, one analysed twice."""
    runs = {
        (unit, ratio): pretrained(tmp_path, unit, ratio, distance, skill)
        for unit, ratio, distance, skill in (
            *((8, 0.4, 2.8, -0.1), (16, 0.6, 7.2, 0.2), (16, 0.8, 9.9, 0.3), (32, 0.8, 26.0, 0.4)),
        )
    }
    for run in runs.values():
        (run / "checkpoints").mkdir()  # what a fine-tuning may name instead
    for unit, ratio, top1 in ((8, 0.4, 0.4), (16, 0.6, 0.5)):
        finetuned(tmp_path, runs[unit, ratio], top1)
        finetuned(tmp_path, runs[unit, ratio] / "checkpoints", top1 + 0.02, seed=1)
    analysed(tmp_path, "attention-1", runs[16, 0.6], 40.0, time=1.0)
    analysed(tmp_path, "attention-2", runs[16, 0.6], 30.0, time=2.0)
    return tmp_path, runs


# ----- ridge ----------------------------------------------------------------------------------------------


def test_scores_and_distances_stand_beside_their_masks(sweep):
    storage, _ = sweep
    found = read_ridge(str(storage), [])
    assert [row["run"] for row in found.rows] == ["m8-0.4", "m16-0.6", "m16-0.8", "m32-0.8"]
    rows = {(row["unit"], row["ratio"]): row for row in found.rows}
    assert found.finetuned == "finetune_demo" and found.others == ()
    row = rows[16, 0.6]
    assert row["top1"] == pytest.approx(0.51) and row["top1_spread"] == pytest.approx(
        0.01414, rel=1e-3
    )
    assert (row["attention_distance_px"], row["attention_distance_px_at_192"]) == (30.0, 60.0)
    assert (row["avgdist_px"], row["avgdist_px_at_192"]) == (7.2, 14.4)
    assert rows[16, 0.8]["top1"] is None and rows[16, 0.8]["skill"] == 0.3
    assert [row["on_ridge"] for row in found.rows] == [False, True, True, False] and RIDGE == (
        10,
        20,
    )
    assert not any("loss" in name for row in found.rows for name in row)


def test_the_latest_step_counts_and_no_other_convention(sweep):
    storage, runs = sweep
    run = runs[16, 0.8]
    steps = [run / "checkpoints" / f"step-{number:08d}" for number in (20, 100)]
    analysed(storage, "attention-late", steps[1], 31.0, time=3.0)
    analysed(storage, "attention-newer", steps[1], 32.0, time=4.0)
    analysed(storage, "attention-early", steps[0], 50.0, time=5.0)
    analysed(storage, "attention-kept", steps[1], 60.0, time=6.0, class_token="keep")
    analysed(storage, "attention-few", steps[1], 70.0, time=7.0, pictures=8)
    analysed(storage, "attention-large", steps[1], 80.0, time=8.0, size=192)
    rows = {row["run"]: row for row in read_ridge(str(storage), []).rows}
    assert rows["m16-0.8"]["attention_distance_px"] == 32.0


def test_only_fine_tunings_that_compare_stand_in_one_column(sweep):
    storage, runs = sweep
    finetuned(storage, runs[32, 0.8], 0.9, recipe="finetune_transfer")
    finetuned(storage, runs[32, 0.8], 0.9, words=["data.labels=10%"])
    finetuned(storage, runs[32, 0.8], 0.9, words=["augment.mixup=0.1"])
    found = read_ridge(str(storage), [])
    assert {row["run"]: row["top1"] for row in found.rows}["m32-0.8"] is None
    assert found.others == (
        "finetune_demo with other settings",
        "finetune_transfer",
        "finetune_demo (data.labels=10%)",
    )
    other = read_ridge(str(storage), [], "finetune_transfer")
    assert {r["run"]: r["top1"] for r in other.rows} == {
        "m8-0.4": None, "m16-0.6": None, "m16-0.8": None, "m32-0.8": 0.9
    }  # fmt: skip


def test_a_shortened_encoder_never_stands_for_a_run_and_few_labels_do_last(tmp_path):
    run = pretrained(tmp_path, 16, 0.6, 7.2)
    finetuned(tmp_path, run, 0.1, words=["data.labels=10%"])
    finetuned(tmp_path, run, 0.2, words=["model.drop_layers=2"])
    assert [row["top1"] for row in read_ridge(str(tmp_path), []).rows] == [0.1]
    finetuned(tmp_path, run, 0.3)
    found = read_ridge(str(tmp_path), [])
    assert [row["top1"] for row in found.rows] == [0.3]
    assert found.others == ("finetune_demo (data.labels=10%)",)


def test_averaged_weights_stand_for_a_fine_tuning_that_has_them(sweep):
    storage, runs = sweep
    words, average = ["optim.average=0.99"], {"val/top1_average": 0.7}
    finetuned(storage, runs[32, 0.8], 0.6, recipe="finetune_transfer", words=words, **average)
    found = read_ridge(str(storage), [], "finetune_transfer")
    assert {row["run"]: row["top1"] for row in found.rows}["m32-0.8"] == 0.7


def test_the_verb_writes_table_and_figure(sweep, capsys):
    storage, _ = sweep
    assert main(["analyze", "ridge", str(storage), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (place,) = storage.glob("analyses/ridge-*")
    assert told["uri"] == str(place) and told["score"] == "top1"
    assert (place / "ridge.png").read_bytes().startswith(PNG)
    assert pq.read_table(place / "table.parquet").to_pylist() == told["rows"]
    assert main(["analyze", "ridge", str(storage)]) == 0
    out = capsys.readouterr().out
    assert "14.4 px *" in out and "2 of 4 runs are fine-tuned by finetune_demo" in out
    assert "51.00% ± 1.41" in out


def test_skill_stands_in_where_nothing_is_fine_tuned(tmp_path, capsys):
    pretrained(tmp_path, 16, 0.6, 7.2, skill=0.25)
    pretrained(tmp_path, 16, 0.8, 9.9, status="running", final={})
    assert main(["analyze", "ridge", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "+0.250" in out and "- (running)" in out and "so skill stands for" in out
    (place,) = tmp_path.glob("analyses/ridge-*")
    assert json.loads((place / "table.json").read_text())["score"] == "skill"


def test_a_sweep_by_its_file(tmp_path, capsys):
    file = tmp_path / "grid.yaml"
    file.write_text("recipe: demo\ngrid: {mask.ratio: [0.4, 0.6]}\n")
    ask = ["analyze", "ridge", str(file), f"run.storage={tmp_path / 'runs'}"]
    assert main(ask) == 2
    assert "no pre-training of it has begun" in capsys.readouterr().err
    from mimray.study.sweeps.grid import load_sweep

    _, (cell, _) = load_sweep(str(file), [f"run.storage={tmp_path / 'runs'}"])
    mask = {"hidden_ratio": 0.4, "average_distance": 5.0}
    write(tmp_path / "runs", cell.recipe.run_name(), cell.recipe, kind="pretrain", mask=mask)
    pretrained(tmp_path / "runs", 32, 0.8, 26.0)  # beside it, and none of its cells
    assert main([*ask, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["run"] == cell.recipe.run_name() and row["avgdist_px_at_192"] == 10.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/nowhere.yaml"], "no sweep '/nowhere.yaml'"),
        (["/nowhere"], "/nowhere: holds no runs; name a folder of runs, or a sweep's YAML file"),
        (["STORAGE", "mask.ratio=0.5"], "settings go with a sweep's YAML file"),
        (["STORAGE", "--finetuned", "finetune_dem"], "no finished fine-tuning by it; did you mean"),
    ],
)
def test_what_is_no_ridge(sweep, capsys, words, says):
    words = [str(sweep[0]) if word == "STORAGE" else word for word in words]
    assert main(["analyze", "ridge", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


# ----- losses ---------------------------------------------------------------------------------------------


def with_rows(place, val):
    rows = [
        {"step": n, "images": 100 * n, "train/loss": 1.0 - 0.02 * n, "val/loss": loss}
        for n, loss in enumerate(val, start=1)
    ]
    (place / "metrics.jsonl").write_text("".join(to_json(row) + "\n" for row in rows))
    return place


@pytest.fixture
def curved(tmp_path):
    """A run that over-fits, and one that does not."""
    good = [1.0 - 0.02 * n for n in range(20)]
    with_rows(pretrained(tmp_path, 16, 0.6, 7.2), good)
    with_rows(
        pretrained(tmp_path, 16, 0.8, 9.9), [*good[:10], *(0.82 + 0.02 * n for n in range(10))]
    )
    return tmp_path


def test_the_alarm_names_the_run(curved, capsys):
    ask = ["analyze", "losses", "m16-0.6", str(curved / "m16-0.8"), "--storage", str(curved)]
    assert main(ask) == 0
    calm, loud, files = capsys.readouterr().out.strip().splitlines()
    assert calm.startswith("m16-0.6: no over-fitting")
    assert loud.startswith("m16-0.8: OVER-FITTING: validation loss has risen from 0.8")
    (place,) = curved.glob("analyses/losses-*")
    assert str(place) in files and (place / "losses.png").read_bytes().startswith(PNG)
    assert main([*ask, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in told["runs"]] == ["holds", "over-fits"]
    verdicts = pq.read_table(place / "table.parquet")["verdict"].to_pylist()
    assert verdicts == ["holds", "over-fits"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "no run 'nothing', in "),
        (["m8-0.4"], "has no rows yet"),
        (["m16-0.6", "--data", "builtin:photos/val"], "--data goes with --pictures N"),
        (["m16-0.6", "--pictures", "2", "--here"], "no complete checkpoint"),
        (["tuned", "--pictures", "2", "--here"], "is of a fine-tuning, which hides nothing"),
    ],
)
def test_what_has_no_losses_to_show(curved, capsys, words, says):
    parent = pretrained(curved, 8, 0.4, 2.8)
    (curved / "m16-0.6" / "checkpoints").mkdir()
    with_rows(finetuned(curved, parent, 0.5).rename(curved / "tuned"), [0.5])
    assert main(["analyze", "losses", *words, "--storage", str(curved)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not (curved / "analyses").exists()
