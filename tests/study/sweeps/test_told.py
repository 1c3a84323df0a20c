"""What Tune hears of a trial."""

import json

import pytest
import torch

from mimray.errors import Stopped, UserError
from mimray.study.sweeps.trial import WORST, Reporter, Trial
from tests.study.sweeps.small import begun, trial_of

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_every_validation_is_told_once(lay_out):
    trial, told = trial_of(lay_out), []
    key = trial.score
    begun(trial, [{"step": 1}, {"step": 2, key: 0.1}, {"step": 4, key: None}])
    reporter = Reporter(trial, told.append)
    reporter.read()
    reporter.row({"step": 4, key: 0.7}, 10)  # gone on from a checkpoint before it
    reporter.row({"step": 6, key: 0.3}, 10)
    reporter.read()
    assert [(r["progress"], r["score"]) for r in told] == [(0.2, 0.1), (0.4, WORST), (0.6, 0.3)]
    assert {r["run"] for r in told} == {trial.cell.name}
    assert trial.curve() == [[0.2, 0.1], [0.4, WORST]]


def test_a_trial_that_tune_ends_stops(lay_out):
    trial = trial_of(lay_out)
    begun(trial, [])

    def leave(result):
        raise SystemExit

    with pytest.raises(Stopped):
        Reporter(trial, leave).row({"step": 1, trial.score: 0.0}, 10)


def test_cells_travel(lay_out):
    import ray.cloudpickle as pickle

    trial = trial_of(lay_out)
    assert pickle.loads(pickle.dumps(trial)) == trial
    assert json.dumps(trial.failure("why"))


def test_what_no_error_of_ours_says_is_told_too(lay_out, monkeypatch):
    from ray import tune

    from mimray.study.sweeps import tuner

    trial, told = trial_of(lay_out), []
    monkeypatch.setattr(tune, "report", told.append)
    for error, reason in (
        (RuntimeError("CUDA out of memory.\nTried to"), "RuntimeError: CUDA out of memory."),
        (UserError("data.val: holds no pictures"), "data.val: holds no pictures"),
    ):

        def fail(self, tell, error=error):
            raise error

        monkeypatch.setattr(Trial, "run", fail)
        tuner._trial(
            {"cell": "a"},
            trials={"a": trial},
            name=lambda config: config["cell"],
            folder="/nowhere",
        )
        assert told[-1]["failed"] == reason and told[-1]["objective"] == WORST
