"""A study that goes on after its pictures were changed."""

import pytest
import torch

from mimray.data.sources import open_source
from mimray.data.subset import choose, write_manifest
from mimray.errors import UserError
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import open_study
from mimray.train.prepare import open_data
from mimray.train.record import Record
from mimray.train.run_folder import RunFolder
from tests.study.scaling.tiny import HERE

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


@pytest.fixture
def lay_out(tmp_path):
    """Its pictures are a folder; of what the second of its subsets is, the test says."""
    (tmp_path / "pictures").mkdir()
    for number, data in enumerate(open_source("builtin:photos/val").read(range(40))):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(data)

    def load(part, more=""):
        text = HERE.replace("photos 10%: 10%, photos 100%: 100%", f"all: 100%, some: {part}")
        text = text.replace("[4]", "[4, 8]").replace("tasks: [knn]", "")
        (tmp_path / "tiny.yaml").write_text(text + more)
        words = ["data.val=builtin:photos/val", f"data.train={tmp_path / 'pictures'}"]
        return load_study(str(tmp_path / "tiny.yaml"), [*words, f"run.storage={tmp_path}/runs"])

    return load


def draw(place, share):
    source = open_source(str(place / "pictures"))
    write_manifest(str(place / "some.parquet"), source, choose(source, share), {})


def begin(cell, recipe=None):
    """Its run, or another of `recipe`, has begun, and is finished for what its record says."""
    job = open_data(recipe or cell.recipe)
    job.run.make()
    Record(job).save(status="finished")


def test_pictures_that_came_to_a_folder_are_other_data(lay_out, tmp_path):
    laid = lay_out("50%")
    begin(laid.cells[1])  # the longer one on all pictures: not the first that is looked at
    open_study(laid, StudyFolder(laid))
    more = open_source("builtin:photos/val").read([50])
    (tmp_path / "pictures" / "more.jpg").write_bytes(more[0])
    with pytest.raises(
        UserError, match=f"study tiny: .*{laid.cells[1].name}.* has begun on other data"
    ) as told:
        open_study(laid, StudyFolder(laid))
    assert str(tmp_path / "pictures") in str(told.value) and "\n" not in str(told.value)


def test_a_manifest_that_was_written_anew_is_other_data(lay_out, tmp_path):
    draw(tmp_path, 0.5)
    laid = lay_out(tmp_path / "some.parquet")
    begin(laid.cells[3])
    open_study(laid, StudyFolder(laid))
    draw(tmp_path, 0.7)
    with pytest.raises(UserError, match=f"{laid.cells[3].name}.* has begun on other data"):
        open_study(laid, StudyFolder(laid))


def test_fine_tunings_on_other_pictures_are_not_mixed(lay_out, tmp_path):
    """Of any cell, and also where the settings name pictures of their own."""
    mine, test = tmp_path / "mine", tmp_path / "test"
    for number, data in enumerate(open_source("builtin:photos/val").read(range(40))):
        place = (mine if number < 30 else test) / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    named = f"{{data.train: {mine}, data.val: {test}, optim.batch: 8}}"
    laid = lay_out("50%", f"finetune: {{recipe: finetune_demo, set: {named}}}\n")
    steps = open_study(laid, StudyFolder(laid))
    for cell in laid.cells[:2]:
        begin(cell)
    begin(laid.cells[0], steps[2].training(laid.cells[0]))
    open_study(laid, StudyFolder(laid))
    (mine / "a" / "more.jpg").write_bytes((mine / "b" / "1.jpg").read_bytes())
    with pytest.raises(
        UserError,
        match=f"^finetune: run {laid.cells[0].name}-finetune-.* has begun on other pictures",
    ):
        open_study(laid, StudyFolder(laid))
    RunFolder.of(laid.cells[0].recipe).write("run.json", b"{")  # it fails alone
    open_study(laid, StudyFolder(laid))


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_record_is_a_failure_of_its_cell_alone(lay_out, damaged):
    laid = lay_out("50%")
    begin(laid.cells[damaged])
    RunFolder.of(laid.cells[damaged].recipe).write("run.json", b"{")
    open_study(laid, StudyFolder(laid))
