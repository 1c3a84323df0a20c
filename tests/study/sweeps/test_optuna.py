"""Cells that Optuna asks for."""

import pytest
import torch

from mimray.errors import UserError
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.trial import WORST
from tests.study.sweeps.small import GRID

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


def test_optuna_knows_what_earlier_starts_found(lay_out):
    pytest.importorskip("optuna")
    sweep, cells = lay_out(f"{GRID}search: optuna\nsamples: 5\n")
    choice = choice_of(sweep, cells)
    asked = choice.ask({cells[0].name: 0.5, cells[1].name: WORST}, [cells[4].name])
    assert asked.samples == 3 and asked.space == {}
    assert choice.name(asked.search.suggest("t")) == cells[4].name  # it was under way


def test_optuna_asks_for_no_cell_twice_and_finds_the_best():
    pytest.importorskip("optuna")
    from mimray.study.sweeps.optuna_search import OptunaSearch

    grid = {"mask.ratio": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "optim.lr": [1, 2, 3, 4, 5, 6]}
    search = OptunaSearch(grid, {(0, 0): -8.0, (1, 0): WORST}, [], 0)
    under_way = [tuple(search.suggest(name).values()) for name in ("a", "b")]
    assert len({*under_way, (0, 0), (1, 0)}) == 4
    search.on_trial_complete("a", error=True)
    search.on_trial_complete("b", {"failed": "so", "objective": WORST})
    asked = []
    for number in range(32):
        asked.append(tuple(search.suggest(str(number)).values()))
        worth = -abs(asked[-1][0] - 4) - abs(asked[-1][1] - 4)
        search.on_trial_complete(str(number), {"objective": float(worth)})
    assert len(set(asked)) == 32 and search.suggest("none is left") is None
    best = [asked.index(place) for place in asked if min(place) > 2]
    assert sum(best) / len(best) < 12  # 15.5 if it drew them


def test_optuna_is_asked_for_in_a_line(lay_out, monkeypatch):
    monkeypatch.setattr("mimray.study.sweeps.choosing.find_spec", lambda name: None)
    with pytest.raises(UserError, match="search=optuna needs Optuna: pip install"):
        choice_of(*lay_out(f"{GRID}search: optuna\nsamples: 3"))
