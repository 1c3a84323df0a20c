"""A sweep that goes on does so on the pictures that it began with."""

import json
import shutil

import pytest

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.errors import UserError
from mimray.study.opening import open_cells
from mimray.study.sweeps import tuner
from mimray.study.sweeps.objective import check_objective, objective_of
from mimray.train.prepare import open_data
from mimray.train.record import Record
from mimray.train.run_folder import RunFolder
from tests.study.sweeps.small import GRID

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures."""
    (tmp_path / "photos").mkdir()
    for number, data in enumerate(open_source("builtin:photos/val").read(range(20))):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    return tmp_path / "photos"


def test_other_pictures_than_those_of_a_trial_that_has_begun(
    lay_out, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(tuner, "room_for", lambda cells: pytest.fail("it starts Ray"))
    words = [f"data.train={folder}", "optim.batch=8", "run.tracking=off"]
    _, cells = lay_out(GRID, *words)
    run = RunFolder.of(cells[3].recipe)  # not the first, and in need of no more
    run.make()
    about = {"name": cells[3].name, "recipe_digest": cells[3].recipe.digest(), "steps": 4}
    about |= {"status": "finished", "final": {"val/reference_skill": 0.5}, "total_steps": 4}
    run.write_record(about | {"data_digest": open_data(cells[3].recipe).data_digest})
    sweep = ["sweep", str(tmp_path / "tiny.yaml"), f"run.storage={tmp_path / 'runs'}", *words]
    assert main([*sweep, "--dry-run"]) == 0
    capsys.readouterr()
    shutil.copy(folder / "0.jpg", folder / "20.jpg")
    for more in (["--dry-run"], []):
        assert main([*sweep, *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"sweep tiny: run {cells[3].name} ({cells[3].words}) has begun on other data" in line
        assert f"than data.train={folder} hold now; bring them back" in line
    (folder / "20.jpg").unlink()
    assert main([*sweep, "--dry-run"]) == 0


def test_fewer_pictures_than_a_trial_began_with(lay_out, folder):
    """That they are fewer than its batch now is not what is to be mended."""
    words = [f"data.train={folder}", "data.val=builtin:photos/val", "run.tracking=off"]
    _, cells = lay_out("grid: {optim.batch: [8, 20]}", *words)
    job = open_data(cells[1].recipe)
    job.run.make()
    Record(job).save(status="running")
    (folder / "0.jpg").unlink()
    with pytest.raises(
        UserError, match=rf"{cells[1].name} \(optim.batch=20\) has begun on other data"
    ):
        open_cells(cells, "sweep tiny", lambda cell: cell.words)


def test_trials_scored_on_other_pictures_are_not_mixed(lay_out, folder, tmp_path):
    """Neither those that are learned from nor those of the test; a record that says no digests is taken."""
    for number, photo in enumerate(sorted(folder.iterdir())):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        photo.rename(folder / "ab"[number % 2] / photo.name)
    shutil.copytree(folder, test := tmp_path / "test")
    (test / "a" / "0.jpg").unlink()
    sweep, cells = lay_out(f"{GRID}objective: knn\nknn: {{train: {folder}, val: {test}}}\n")
    objective = objective_of(sweep, cells)
    check_objective(objective, cells)
    record = tmp_path / "runs" / "evaluate" / objective._of(cells[3]).name(cells[3]) / "result.json"
    record.parent.mkdir(parents=True)
    sources = {"train": open_source(str(folder)), "val": open_source(str(test))}
    digests = {split: {"source": source.digest} for split, source in sources.items()}
    record.write_text(json.dumps({"chosen": {"top1": 0.5}, "digests": digests}))
    check_objective(objective, cells)
    assert objective.value(cells[3]) == 0.5
    for grown in (folder, test):
        shutil.copy(folder / "a" / "10.jpg", grown / "b" / "more.jpg")
        with pytest.raises(
            UserError,
            match=f"^objective=knn: run {cells[3].name} .* other pictures than {grown} holds now; bring",
        ):
            check_objective(objective, cells)
        (grown / "b" / "more.jpg").unlink()
    shutil.copy(folder / "a" / "10.jpg", test / "b" / "more.jpg")
    for text in (
        '{"chosen": {"top1": 0.5}}',
        '{"na',
    ):  # old, or damaged: a failure of its trial alone
        record.write_text(text)
        check_objective(objective, cells)
