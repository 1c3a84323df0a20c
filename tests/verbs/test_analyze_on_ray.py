"""`mimray analyze` by real Ray tasks: the command line in a process of its own."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

from mimray.cli import main
from tests.evaluate.test_checkpoint import weights_file
from tests.train.runs import environment

pytestmark = pytest.mark.slow  # starts a Ray
torch.set_num_threads(1)  # as a task has, so that sums are the same to the bit


def test_tasks_say_what_this_process_says(capsys, tmp_path):
    torch.manual_seed(0)
    given = [f"--from={weights_file(tmp_path / name, 'vit_nano', 32)}" for name in "ab"]
    words = ["attention", *given, "--image-size", "32", "--data", "builtin:photos/val", "--json"]
    words += ["--images", "10", "--batch", "4"]
    assert main(["analyze", *words, "--here", "--storage", str(tmp_path / "here")]) == 0
    here = json.loads(capsys.readouterr().out)
    storage = ["--storage", str(tmp_path / "ray")]
    done = subprocess.run(
        [sys.executable, "-m", "mimray.cli", "analyze", *words, *storage],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["digests"] == here["digests"]
    for table in ("rows", "pairs"):
        one, other = (pq.read_table(f"{r['uri']}/{table}.parquet") for r in (here, found))
        assert one == other and len(one) > 0
