"""Secrets of the environment stand in 0 bytes of what a run writes and says."""

import subprocess
import sys

import pytest

from tests.train.runs import environment

pytestmark = pytest.mark.slow

CANARY = "c4n4ry-0123456789"
NAMES = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "HF_TOKEN")


def test_a_run_keeps_and_shows_none(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mimray.cli", "--debug", "finetune", "finetune_demo", "--here"),
            *("--from", "scratch", "--json", f"run.storage={tmp_path}/runs"),
            *(f"run.tracking=sqlite:///{tmp_path}/mlflow.db", "schedule.length=2it"),
            *("schedule.warmup=1it", "run.log_every=1it"),
        ],
        env=environment(**dict.fromkeys(NAMES, CANARY)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"run.json", "metrics.jsonl", "mlflow.db"} <= {file.name for file in files}
    assert [file for file in files if CANARY.encode() in file.read_bytes()] == []
