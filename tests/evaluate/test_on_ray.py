"""Evaluation by real Ray tasks: the command line in a process of its own."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.evaluate.conftest import QUICK
from tests.train.runs import environment

pytestmark = pytest.mark.slow  # two groups of tasks: `make test` has eight minutes


def evaluate(*words):
    done = subprocess.run(
        [sys.executable, "-m", "mimray.cli", "evaluate", *map(str, words), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_two_cells_of_which_one_fails_and_a_probe(pretrained, folder, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    shutil.rmtree(bad / "val" / "class3")
    shared = ("--from", pretrained, "--storage", tmp_path / "runs")
    ask = ("suite", "semantic", *shared, "--sets", f"{bad},{folder}", "--seeds", "0", *QUICK)
    status, found, said = evaluate(*ask, "optim.batch=8")
    assert status == 3, said
    failed, good = found["rows"]
    assert failed["status"] == "failed" and "class 'class3' is among" in failed["reason"]
    assert good["status"] == "finished" and good["test"] == 20 and good["scores"] == [good["mean"]]
    # what failed is tried again, what is finished is not
    restored = bad / "val" / "class3"
    shutil.copytree(folder / "val" / "class3", restored)
    status, again, said = evaluate(*ask, "optim.batch=8")
    assert status == 0 and "1 of 2 cells" in said
    assert again["rows"][1] == good and again["rows"][0]["status"] == "finished"

    status, probed, said = evaluate("knn", *shared, "--data", folder, "--layers", "last")
    assert status == 0 and "1/1 shards" in said and probed["photos"]["val"] == 20
