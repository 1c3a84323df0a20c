"""What trials are ranked by: labels that it asks for, and pictures that compare."""

import pytest
import torch

from mimray.errors import UserError
from mimray.evaluate.workers import Share
from mimray.recipe import load_finetune_recipe
from mimray.study.placing import Plan
from mimray.study.sweeps.objective import check_objective, objective_of
from mimray.study.sweeps.trial import Trial
from mimray.train.prepare import open_data
from mimray.train.run_folder import RunFolder
from tests.study.sweeps.small import GRID, SMALL, begun

PHOTOS = "builtin:photos"

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "objective: finetune\nfinetune: {set: {data.train: FOLDER}}",
            "finetune: .* has no labels",
        ),
        ("objective: finetune\nfinetune: {recipe: demo}", "demo is a recipe for pre-training"),
        ("objective: finetune\nfinetune: {set: {run.name: x}}", "sweep sets run.name itself"),
        (
            "objective: finetune\nfinetune: {set: {speed.workers: 2}}",
            r"speed.workers=2, .* much of the cluster as its pre-training, speed.workers=1; write",
        ),
        ("objective: finetune\nfinetune: {set: {optim.lrr: 1}}", "optim.lrr is not a setting"),
        ("objective: knn\nset: {data.train: FOLDER}", "needs pictures with labels"),
        ("objective: knn\nknn: {train: FOLDER, val: 'builtin:photos/val'}", "has no labels"),
    ],
)
def test_an_objective_without_labels_is_refused(lay_out, tmp_path, text, says):
    from mimray.data.sources import open_source

    folder = tmp_path / "flat"
    folder.mkdir()
    for number, data in enumerate(open_source("builtin:photos/val").read([0, 1, 2, 3])):
        (folder / f"{number}.jpg").write_bytes(data)
    own = "" if "\nset" in text else SMALL
    with pytest.raises(UserError, match=says):
        sweep, cells = lay_out(
            GRID + text.replace("FOLDER", str(folder)),
            *(
                []
                if own
                else ["model.encoder=vit_nano", "model.image_size=32", "model.window=null"]
            ),
            head=f"recipe: demo\n{own}",
        )
        check_objective(objective_of(sweep, cells), cells)


def test_what_a_trial_has_no_room_for_is_a_sweeps_matter(lay_out):
    """In a study each step has its own need."""
    text = "objective: finetune\nfinetune: {set: {speed.workers: 2}}"
    sweep, cells = lay_out(GRID + text)
    objective_of(sweep, cells).check(cells)


def test_fine_tuning_takes_the_pictures_of_the_pre_training(lay_out):
    """But not those that its own settings name, nor where trials have pictures of their own."""
    photos, others = "builtin:photos/train", "builtin:photos/val"
    swapped = (f"data.train={others}", f"data.val={photos}", "data.upright=true")

    def data(text, *words):
        sweep, cells = lay_out(text + "\nobjective: finetune", *words)
        return objective_of(sweep, cells).recipe(cells[0], None).data

    found = data(GRID, *swapped)
    assert (found.train, found.val, found.upright) == (others, photos, True)
    named = data(GRID + f"finetune: {{set: {{data.val: '{others}'}}}}", *swapped)
    assert (named.train, named.val) == (others, others)
    own = load_finetune_recipe("finetune_demo", []).data
    assert data(GRID, swapped[0], "data.val=null") == own
    assert data(f"grid: {{data.train: ['{others}', '{photos}']}}", *swapped[1:]) == own


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (f"data.val: [{PHOTOS}/train, {PHOTOS}/val]", "own .*; write knn: {train: URI, val: URI}"),
        (
            "data.upright: [true, false]",
            "data.upright differs, and trials would be tested on other",
        ),
    ],
)
def test_neighbours_are_tested_on_the_same_pictures(lay_out, grid, says):
    sweep, cells = lay_out(f"grid: {{{grid}}}\nobjective: knn")
    with pytest.raises(UserError, match=says):
        check_objective(objective_of(sweep, cells), cells)


def test_trials_on_other_pictures_may_be_tested_on_the_same(lay_out):
    train, val = f"{PHOTOS}/train", f"{PHOTOS}/val"
    pair = f"knn: {{train: '{train}', val: '{val}'}}"
    sweep, cells = lay_out(f"grid: {{data.train: [{train}, {val}]}}\nobjective: knn\n{pair}")
    check_objective(objective_of(sweep, cells), cells)


def test_fine_tunings_on_other_pictures_are_not_mixed(lay_out):
    sweep, cells = lay_out(f"{GRID}objective: finetune")
    objective = objective_of(sweep, cells)
    digest = open_data(objective.recipe(cells[0], None)).pictures_digest
    begun(Trial(cells[0], objective, "val/skill", Plan(Share(1), Share(1), 1), None), [])
    tuned = RunFolder.of(objective.recipe(cells[0], None))
    tuned.make()
    about = {"name": "tuned", "status": "running", "recipe_digest": "x"}
    tuned.write_record(about | {"data_digest": f"{digest}-weights"})
    objective.check(cells)
    tuned.write_record(about | {"data_digest": f"{digest}0-weights"})
    with pytest.raises(UserError, match="finetune: run tuned has begun on other pictures"):
        objective.check(cells)


# ----- on whose pictures ----------------------------------------------------------------------------------

MINE = "data.train=/my/photos"
WRITE = "write finetune: {set: {data.train: URI, data.val: URI}}"


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        (GRID, [MINE], f"data.train=/my/photos is without data.val, .*; set data.val, or {WRITE}"),
        (f"grid: {{data.train: [/my/photos, '{PHOTOS}/train']}}\n", [f"data.val={PHOTOS}/val"],
         f"trials differ in their pictures, .*; {WRITE}"),
        ("grid: {data.upright: [true, false]}\n", [MINE, "data.val=/my/val"], "trials differ in"),
        (f"finetune: {{set: {{data.val: '{PHOTOS}/val'}}}}\ngrid: {{data.train: [/my/a, /my/b]}}\n", [],
         "trials differ in"),
    ],
)  # fmt: skip
def test_my_sweep_is_not_ranked_on_pictures_of_the_recipe(lay_out, text, words, says):
    sweep, cells = lay_out(f"{text}objective: finetune\n", *words)
    with pytest.raises(UserError, match=says.replace("{", r"\{")) as told:
        objective_of(sweep, cells)
    assert f"finetune_demo would fine-tune on pictures of its own, {PHOTOS}/train" in str(
        told.value
    )


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("objective: finetune", [], f"fine-tuned on {PHOTOS}/train, tested on {PHOTOS}/val"),
        ("objective: finetune\nfinetune: {set: {data.val: /my/val}}", [MINE],
         "fine-tuned on /my/photos, tested on /my/val"),
        ("objective: finetune\nfinetune: {set: {data.train: /other}}", [MINE],
         "fine-tuned on /other, tested on pictures held out from it"),
        ("objective: knn", [], f"neighbours among {PHOTOS}/train, tested on {PHOTOS}/val"),
        ("objective: skill", [], None),
    ],
)  # fmt: skip
def test_pictures_are_said(lay_out, text, words, said):
    sweep, cells = lay_out(GRID + text, *words)
    assert objective_of(sweep, cells).learned_from(cells) == said


@pytest.mark.parametrize("way", ["true", "false"])
def test_pictures_are_turned_as_in_the_sweep_where_fine_tuning_has_its_own(lay_out, way):
    named = f"{{set: {{data.train: '{PHOTOS}/val', data.val: '{PHOTOS}/train'}}}}"
    text = f"{GRID}objective: finetune\nfinetune: {named}"
    sweep, cells = lay_out(text, MINE, f"data.upright={way}")
    assert objective_of(sweep, cells).recipe(cells[0], None).data.upright is (way == "true")


def test_a_fine_tuning_shorter_than_its_warm_up(lay_out):
    text = "objective: finetune\nfinetune: {set: {schedule.length: 1ep}}"
    sweep, cells = lay_out(GRID + text)
    with pytest.raises(UserError, match=r"finetune: schedule\.warmup=2ep is longer than the run"):
        objective_of(sweep, cells).check(cells)
