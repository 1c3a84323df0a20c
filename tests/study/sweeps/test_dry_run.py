"""`mimray sweep --dry-run`, and what a sweep's file and words may not say together."""

import pytest

from mimray import cli
from mimray.train import cluster
from tests.study.sweeps.small import MASKS

pytestmark = pytest.mark.unit


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "tiny.yaml").write_text(MASKS)

    def call(*words, text=MASKS):
        (tmp_path / "tiny.yaml").write_text(text)
        storage = f"run.storage={tmp_path / 'runs'}"
        status = cli.main(["sweep", str(tmp_path / "tiny.yaml"), *words, storage])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def test_a_dry_run_lists_its_trials_and_leaves_nothing(sweep, tmp_path):
    status, said = sweep("--dry-run")
    assert status == 0 and "2 trials, " in said and said.count("waiting") == 2
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_says_what_a_run_would(sweep, monkeypatch):
    monkeypatch.setattr(cluster, "free_memory", lambda: 2**30)
    monkeypatch.setattr(cluster.os, "sched_getaffinity", lambda _: {0, 1})
    for words in (("speed.workers=64",), ("speed.workers=64", "--dry-run")):
        status, said = sweep(*words)
        assert status == 2 and "speed.workers=64: so many trainers take" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "tiny.yaml: not a sweep: it holds no settings"),
        ("- demo\n", "tiny.yaml: not a sweep: it holds no settings"),
        (f"{MASKS}grid: {{mask.ratio: [0.4]}}\n", "not YAML: grid is set twice"),
    ],
)
def test_a_file_that_is_no_sweep(sweep, text, says):
    status, said = sweep("--dry-run", text=text)
    assert status == 2 and says in said and len(said.splitlines()) == 1


def test_a_word_that_the_grid_varies(sweep):
    status, said = sweep("--status", "mask.unit=8")
    assert status == 2 and "mask.unit varies in the grid of" in said


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("objective=knn", "of the sweep and not of its recipe; "),
        ("objective=knn", "tiny.yaml is to say `objective: knn`"),
        ("finetune.recipe=x", "tiny.yaml is to say `finetune: {recipe: x}`"),
        ("finetune.set.data.train=/x", "is to say `finetune: {set: {data.train: /x}}`"),
        ("schedule.warmup=1001it", "schedule.warmup=1001it is longer than the run"),
        ("run.tracking=mlflow.example.org", "write run.tracking=https://mlflow.example.org"),
    ],
)
def test_a_word_that_cannot_be(sweep, word, says):
    status, said = sweep("--dry-run", word)
    assert status == 2 and says in said and len(said.splitlines()) == 1


def test_a_warm_up_that_only_one_cell_has(sweep):
    text = MASKS.replace("mask.unit: [8, 16]", "schedule.warmup: [5it, 1001it]")
    status, said = sweep("--dry-run", text=text)
    assert status == 2 and "cell schedule.warmup=1001it: schedule.warmup=1001it is longer" in said


@pytest.mark.parametrize("word", ["off", "'off'", "no"])
def test_tracking_that_is_off_in_the_file(sweep, word):
    text = MASKS.replace("speed.workers: 1", f"speed.workers: 1, run.tracking: {word}")
    status, said = sweep("--dry-run", text=text)
    assert status == 0, said


def test_a_batch_that_only_one_cell_has(sweep):
    text = MASKS.replace("mask.unit: [8, 16]", "optim.batch: [16, 4096]")
    status, said = sweep("--dry-run", text=text)
    assert status == 2 and len(said.splitlines()) == 1
    assert "cell optim.batch=4096: data.train=builtin:photos/train: 880 photos to train on" in said
    assert "fewer than one batch (optim.batch=4096); set optim.batch=880 or lower" in said


def test_on_whose_pictures_it_ranks_is_said(sweep):
    text = f"{MASKS}objective: finetune\nfinetune: {{set: {{data.train: 'builtin:photos/val'}}}}\n"
    status, said = sweep("--dry-run", text=text)
    assert status == 2 and "are the same pictures" in said
    text = text.replace("}}", ", data.val: 'builtin:photos/train'}}")
    pictures = "fine-tuned on builtin:photos/val, tested on builtin:photos/train"
    status, said = sweep("--dry-run", text=text)
    assert status == 0 and f"Ranked by finetune/top1, {pictures}." in said
    status, said = sweep("--dry-run", "--json", text=text)
    assert status == 0 and f'"pictures":"{pictures}"' in said.replace('": "', '":"')
