"""Secrets of the environment, of addresses and of errors stand in 0 bytes of what a run writes and says."""

import json
import subprocess
import sys

import pytest

from mimray import cli
from mimray.cli import main
from mimray.verbs import runs
from mimray.words import parser
from tests.train.runs import environment

KNOWN = "c4n4ry-0123456789"  # in the environment
TYPED = "h0rse-9876543210"  # in an address alone
NAMES = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "HF_TOKEN")
ERROR = f"http://user:{TYPED}@host/x is gone; signed with {KNOWN}"

WORDS = {
    "setting": ["recipe", "show", "demo", f"mask.ratio=http://user:{TYPED}@host"],
    "recipe": ["pretrain", f"recipes/{KNOWN}"],
    "from": ["finetune", "finetune_demo", "--from", f"s3://key:{TYPED}@bucket/run"],
    "from_file": ["evaluate", "knn", "--from", f"/no/{KNOWN}", "--data", "builtin:photos/val"],
    "address": ["data", "inspect", f"s3://bucket/x?secret_key={TYPED}"],
    "unknown": ["data", "inspect", "builtin:photos/val", f"s3://key:{TYPED}@bucket"],
    "fault": ["runs", "ls"],
}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """What is said of words that cannot be meant, and of a fault."""

    def fault(_):
        raise ValueError(ERROR)

    def run(words):
        try:
            assert main(words) in (2, 3)
        except SystemExit as error:
            assert error.code == 2
        assert list(tmp_path.iterdir()) == []
        return "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", KNOWN)
    monkeypatch.setattr(runs, "run", fault)
    return run


@pytest.mark.unit
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_what_is_said_holds_none(said, words):
    shown = said(words)
    assert "***" in shown and KNOWN not in shown and TYPED not in shown


@pytest.mark.unit
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_it_would_without_redaction(said, words, monkeypatch):
    """So the test above tells something."""
    for module in (cli, parser):
        monkeypatch.setattr(module, "redact", str)
    shown = said(words)
    assert KNOWN in shown or TYPED in shown


FAILING = f"""
import sys
from mimray.cli import main
from mimray.errors import RunFailed
from mimray.train.recorder import Recorder

def fail(*_, **__):
    raise RunFailed({ERROR!r})

if "--fail" in sys.argv:
    sys.argv.remove("--fail")
    Recorder.write_row = fail
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("more", "status"), [((), 0), (("--fail",), 3)], ids=["ends", "fails"])
def test_a_run_keeps_and_shows_none(tmp_path, more, status):
    done = subprocess.run(
        [
            *(sys.executable, "-c", FAILING, *more),
            *("--debug", "finetune", "finetune_demo", "--here", "--from", "scratch", "--json"),
            *(f"run.storage={tmp_path}/runs", f"run.tracking=sqlite:///{tmp_path}/mlflow.db"),
            *("schedule.length=2it", "schedule.warmup=1it", "run.log_every=1it"),
        ],
        env=environment(**dict.fromkeys(NAMES, KNOWN)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    told = [done.stdout + done.stderr]
    if more:
        (record,) = tmp_path.glob("runs/*/run.json")
        told.append(json.loads(record.read_text())["error"])
        assert all("http://***@host/x is gone; signed with ***" in text for text in told)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"run.json", "mlflow.db"} <= {file.name for file in files}
    for secret in (KNOWN, TYPED):
        assert secret not in "".join(told)
        assert [file for file in files if secret.encode() in file.read_bytes()] == []
