"""A trial whose files are damaged fails alone: the sweep goes on with the others."""

import json
from types import SimpleNamespace

import pytest

from mimray.cli import main
from mimray.evaluate.workers import Share
from mimray.study.placing import Plan
from mimray.study.sweeps import tuner
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.objective import objective_of
from mimray.study.sweeps.watching import Watch
from mimray.train.run_folder import RunFolder
from tests.study.sweeps.small import GRID, OFTEN

pytestmark = pytest.mark.unit
FINETUNE = f"{GRID}objective: finetune\n"


def damage(cell):
    run = RunFolder.of(cell.recipe)
    run.make()
    run.write("run.json", b'{"na')


@pytest.mark.parametrize("text", [GRID, FINETUNE])
def test_it_stands_in_the_list_as_failed(lay_out, tmp_path, capsys, text):
    _, cells = lay_out(text)
    damage(cells[0])
    storage = f"run.storage={tmp_path / 'runs'}"
    assert main(["sweep", str(tmp_path / "tiny.yaml"), storage, "--dry-run", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)["cells"]
    assert [row["status"] for row in told] == ["failed"] + 5 * ["waiting"]
    assert f"{cells[0].name}/run.json cannot be read" in told[0]["reason"]


def test_the_others_are_run(lay_out, monkeypatch):
    """And it with them, which says why it cannot be."""
    given = []
    monkeypatch.setattr(tuner, "_tuner", lambda *a: given.append(a) or SimpleNamespace(fit=int))
    sweep, cells = lay_out(f"{FINETUNE}stop: asha", OFTEN, "run.tracking=off")
    for cell in cells[:2]:
        damage(cell)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    known = {"by": sweep.stop.model_dump(), "step": 1, "curve": [[0.1, 0.2]]}
    folder.stopped = {cells[1].name: known}  # it needs no more
    asked, choice = [], choice_of(sweep, cells)
    choice.ask = lambda over, begun: asked.append((list(over), begun))
    watch = Watch(cells, objective, folder, SimpleNamespace(adopt=id), print, 0, 6)
    plan = Plan(Share(1), Share(1), 1)
    tuner.run_trials(sweep, cells, objective, folder, None, choice, watch, plan)
    assert asked == [([cells[1].name], [cells[0].name])] and len(given) == 1
    watch.over_with(cells[0].name, {"failed": "run.json cannot be read"})
    assert folder.failures == {cells[0].name: "run.json cannot be read"}
