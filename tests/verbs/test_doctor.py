"""`mimray doctor --profile` where nothing can be measured: the prediction, the reason in a line, exit 2."""

import json

import pytest

from mimray.cli import main
from mimray.train import prediction, profile

pytestmark = pytest.mark.unit


@pytest.fixture
def doctor(tmp_path, capsys, monkeypatch):
    """Run `mimray doctor --profile demo`; returns its status and what it printed."""
    monkeypatch.setattr(prediction, "matrix_rate", lambda device, bf16: 1e11)

    def never(*_):
        raise AssertionError("nothing may be started")

    monkeypatch.setattr(profile, "launch", never)

    def run(*overrides):
        words = ["doctor", "demo", "--profile", f"run.storage={tmp_path}/runs", *overrides]
        status = main(words)
        assert not (tmp_path / "runs").exists()
        return status, capsys.readouterr().out

    return run


def test_data_that_are_not_there(doctor):
    status, out = doctor("data.train=/no/such/place", "schedule.length=2ep", "--json")
    result = json.loads(out)
    assert status == 2
    assert not result["ok"]
    assert result["predicted"]["parameters"] > 1e5
    assert result["predicted"]["epochs_per_day"] is result["predicted"]["hours"] is None
    assert result["measured"] is None
    assert result["not_measured"] == "to be mended first: data"


def test_a_recipe_that_is_too_large(doctor):
    """Predicted without taking that memory; the numbers are in the line."""
    status, out = doctor("optim.batch=800", "speed.micro_batch=400", "model.image_size=1536")
    assert status == 2
    last = out.strip().splitlines()[-1]
    assert last.startswith("not measured: needs ")
    assert "are free; lower speed.micro_batch=400" in last
    assert "GFLOP a picture forward" in out


def test_a_model_that_cannot_be_built(doctor):
    status, out = doctor("model.encoder=swin_nanno", "--json")
    result = json.loads(out)
    assert status == 2
    assert result["predicted"] is None
    assert "model" in result["not_measured"]


def test_without_profile_nothing_is_predicted(tmp_path, capsys):
    assert main(["doctor", "demo", "--json", f"run.storage={tmp_path}/runs"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"ok", "findings"}
