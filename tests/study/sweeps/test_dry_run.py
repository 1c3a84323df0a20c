"""`mimray sweep --dry-run`, and what a sweep's file and words may not say together."""

import pytest

from mimray import cli
from mimray.train import cluster

pytestmark = pytest.mark.unit

FILE = """
recipe: demo
set: {model.encoder: vit_nano, model.image_size: 32, model.window: null, speed.workers: 1}
grid: {mask.unit: [8, 16]}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "tiny.yaml").write_text(FILE)

    def call(*words, text=FILE):
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
        (f"{FILE}grid: {{mask.ratio: [0.4]}}\n", "not YAML: grid is set twice"),
    ],
)
def test_a_file_that_is_no_sweep(sweep, text, says):
    status, said = sweep("--dry-run", text=text)
    assert status == 2 and says in said and len(said.splitlines()) == 1


def test_a_word_that_the_grid_varies(sweep):
    status, said = sweep("--status", "mask.unit=8")
    assert status == 2 and "mask.unit varies in the grid of" in said
