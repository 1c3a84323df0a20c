"""Which trials are ended, also after a kill."""

from types import SimpleNamespace

import pytest
import torch

from mimray.evaluate.workers import Share
from mimray.study.placing import Plan
from mimray.study.sweeps import tuner
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.halving import Halving
from mimray.study.sweeps.objective import objective_of
from mimray.study.sweeps.sweep import Stop
from mimray.study.sweeps.trial import Trial
from tests.study.sweeps.small import GRID, OFTEN, begun

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


class Told:
    def __init__(self, name):
        self.trial_id = name


def verdicts(halving, curves):
    """Trials one after another, each to the end or until it is ended; where each of them was then."""
    ends = []
    for number, (name, curve) in enumerate(curves.items()):
        trial = Told(f"of this start: {number}")
        halving.on_trial_add(None, trial)
        for progress, score in curve:
            result = {"progress": progress, "score": score, "run": name}
            end = progress
            if halving.on_trial_result(None, trial, result) == "STOP":
                break
        ends.append(end)
    return ends


CURVES = {
    name: [[share / 10, worth * share] for share in range(1, 11)]
    for name, worth in (("a", 1.0), ("b", 2.0), ("c", 0.5), ("d", 3.0), ("e", 2.2))
}


def test_halving_ends_what_is_not_among_the_best():
    ended = []
    ends = verdicts(Halving(Stop(grace=0.1, reduction_factor=4), ended.append), CURVES)
    assert ends == [1.0, 1.0, 0.1, 1.0, 0.1]  # e is below the upper quarter of a, b, c, d
    assert [(r["run"], r["progress"]) for r in ended] == [("c", 0.1), ("e", 0.1)]


def test_halving_goes_on_where_an_earlier_start_was():
    whole = Halving(Stop(), lambda result: None)
    expected = verdicts(whole, CURVES)
    for known in range(1, 5):
        again = Halving(Stop(), lambda result: None)
        for (name, curve), end in list(zip(CURVES.items(), expected, strict=True))[:known]:
            again.remember(name, [point for point in curve if point[0] <= end])
        rest = dict(list(CURVES.items())[known:])
        assert verdicts(again, rest) == expected[known:]


def test_a_trial_that_goes_on_is_not_looked_at_again():
    """It was the first at its rung; better ones came while it went on, and then the driver was killed."""
    curves = {
        name: [[share / 10, worth * share] for share in range(1, 11)]
        for name, worth in (("x", 1.0), ("c", 2.0), ("d", 3.0))
    }
    assert verdicts(Halving(Stop(), pytest.fail), curves) == [1.0, 1.0, 1.0]
    again = Halving(Stop(), pytest.fail)
    for name, curve in curves.items():
        again.remember(name, curve[: 2 if name == "x" else 10])
    x = [[progress, 90.0 if progress > 0.3 else score] for progress, score in curves["x"]]
    assert verdicts(again, {"x": x}) == [1.0]
    # but what it comes to only now is looked at, and so are those that come behind it
    ended = []
    again = Halving(Stop(), ended.append)
    for name, curve in curves.items():
        again.remember(name, curve[: 2 if name == "x" else 10])
    assert verdicts(again, {"x": curves["x"], "e": [[0.1, 1.5]]}) == [0.4, 0.1]
    assert [result["run"] for result in ended] == ["x", "e"]


def test_another_start_knows_those_that_had_begun(lay_out, monkeypatch):
    given = []
    monkeypatch.setattr(tuner, "_tuner", lambda *a: given.append(a) or SimpleNamespace(fit=int))
    sweep, cells = lay_out(f"{GRID}stop: asha", OFTEN, "run.tracking=off")
    objective = objective_of(sweep, cells)
    score, plan = objective.metric, Plan(Share(1), Share(1), 1)
    folder, ended = SweepFolder(sweep, cells), []
    for cell, worth in zip(cells[:3], (0.1, 0.2, 0.3), strict=True):
        begun(Trial(cell, objective, score, plan, None), [{"step": 1, score: worth}])
    folder.stopped[cells[1].name] = {"by": {"rule": "another"}, "step": 1, "curve": [[0.1, 0.2]]}
    watch = SimpleNamespace(ended=ended.append)
    choice = choice_of(sweep, cells)
    tuner.run_trials(sweep, cells, objective, folder, None, choice, watch, plan)
    (halving,) = (one for one in given[0] if isinstance(one, Halving))
    told = {cell.name: [[0.1, 0.1 * number]] for number, cell in enumerate(cells[:3], 1)}
    verdicts(halving, told)
    assert [result["run"] for result in ended] == [
        cells[1].name
    ]  # by another rule: looked at again


def test_a_look_at_a_rung_is_not_missed_by_a_hair():
    halving = Halving(Stop(grace=0.1, reduction_factor=3), lambda result: None)  # 0.1 x 3 > 0.3
    curves = {
        name: [[step / 60, worth] for step in range(6, 61, 6)]
        for name, worth in (("a", 2.0), ("b", 3.0), ("c", 4.0))
    }
    curves["d"] = [[step / 60, 5.0 if step < 18 else 1.0] for step in range(6, 61, 6)]
    assert verdicts(halving, curves) == [1.0, 1.0, 1.0, 0.3]


def test_a_trial_at_its_end_is_not_ended():
    halving = Halving(Stop(grace=0.25, reduction_factor=2), pytest.fail)
    assert verdicts(halving, {"a": [[1.0, 2.0]], "b": [[1.0, 1.0]]}) == [1.0, 1.0]
