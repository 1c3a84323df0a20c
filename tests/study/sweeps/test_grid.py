"""What a sweep may say, its cells, and those that are shipped."""

import pytest
import torch

from mimray.errors import UserError
from mimray.recipe import Mask
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.objective import check_objective, objective_of
from tests.study.sweeps.small import GRID, OFTEN

PHOTOS = "builtin:photos"

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


# ----- what it may say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grids: {mask.unit: [8]}", "grids is not a setting of a sweep; did you mean grid?"),
        ("samples: 3", "has no grid; a sweep needs recipe, grid"),
        ("grid: {}", "at least 1 item"),
        ("grid: []", "at least 1 item"),
        ("grid: {mask.unit: []}", "at least 1 item"),
        ("grid: {mask.unit: [8, 8]}", "mask.unit has a value twice"),
        ("grid: {mask.unitt: [8]}", "cell mask.unitt=8: mask.unitt is not a setting; did you mean"),
        ("grid: {mask.unit: [8, 12]}", "cell mask.unit=12: mask.unit=12 does not divide"),
        ("grid: {mask.strategy: [blok]}", "mask.strategy=blok is not known; did you mean block"),
        (f"{GRID}samples: 3", "samples=3 is of search=random or optuna"),
        (f"{GRID}search: random", "search=random needs samples"),
        (f"{GRID}search: random\nsamples: 7", "samples=7 and there are 6 cells"),
        (f"{GRID}search: optuna\nsamples: 7", "samples=7 and there are 6 cells"),
        ("search: optuna\nsamples: 2\ngrid: [{mask.unit: [8]}, {mask.unit: [16]}]", "one grid"),
        (f"{GRID}search: bayes", "search='bayes'"),
        (f"{GRID}objective: loss", "objective='loss'"),
        (f"{GRID}stop: median", "stop.rule='median'"),
        (f"{GRID}stop: {{grace: 2}}", "stop.grace=2"),
        (
            f"{GRID}stop: {{grace: 0.02}}",
            "run.validate_every=200it of 1000it looks at trials later",
        ),
        (f"{GRID}finetune: {{recipe: finetune_demo}}", "finetune is of objective=finetune"),
        (f"{GRID}reference_mask: {{unit: 5}}", "run.reference_mask: mask unit 5 must divide"),
        (f"{GRID}reference_mask: {{unit: 16, ratio: 0.9}}", "hides all 4 cells"),
        ("grid: {target.kind: [pixels, hog]}", "skill does not compare over target.kind"),
        ("grid: {model.image_size: [32, 64]}", "skill does not compare over model.image_size"),
        (
            f"grid: {{data.train: [{PHOTOS}/train, {PHOTOS}/val]}}",
            "skill does not compare over data.train",
        ),
        ("grid: {speed.block_rows: [8, 16]}", "is the same run as cell speed.block_rows=8"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(lay_out, text, says):
    with pytest.raises(UserError) as told:
        lay_out(text)
    assert says in str(told.value) and "\n" not in str(told.value)


def test_a_class_has_no_skill(lay_out):
    with pytest.raises(UserError, match=r"target\.kind=bins is classified and has no skill"):
        lay_out(GRID, "target.kind=bins")


# ----- cells ----------------------------------------------------------------------------------------------


def test_several_grids_are_one_sweep(lay_out):
    _, cells = lay_out("grid: [{mask.unit: [8], mask.ratio: [0.5, 0.7]}, {mask.unit: [16]}]")
    assert [cell.setting("mask.unit") for cell in cells] == [8, 8, 16]
    assert [cell.setting("mask.ratio") for cell in cells] == [0.5, 0.7, 0.6]


def test_masks_of_their_own_are_compared_under_the_recipes(lay_out):
    sweep, cells = lay_out(GRID)
    assert {cell.recipe.run.reference_mask for cell in cells} == {Mask(unit=16, ratio=0.6)}
    assert objective_of(sweep, cells).metric == "val/reference_skill"
    _, others = lay_out(GRID + "reference_mask: {unit: 8, ratio: 0.5}")
    assert not {cell.name for cell in cells} & {cell.name for cell in others}  # other metrics
    assert [a.recipe.digest() for a in cells] == [b.recipe.digest() for b in others]


def test_one_mask_needs_no_other(lay_out):
    sweep, cells = lay_out("grid: {optim.lr: [0.001, 0.01]}")
    assert {cell.recipe.run.reference_mask for cell in cells} == {None}
    assert objective_of(sweep, cells).metric == "val/skill"
    assert [cell.name for cell in cells] == [f"tiny-{cell.recipe.digest()[:8]}" for cell in cells]


def test_other_pictures_to_learn_from_compare_on_the_same_ones(lay_out):
    grid = f"grid: {{data.train: [{PHOTOS}/train, {PHOTOS}/val]}}"
    assert len(lay_out(grid, f"data.val={PHOTOS}/val")[1]) == 2
    assert len(lay_out(f"{grid}\nobjective: finetune")[1]) == 2  # on the fine-tuning's own


def test_more_samples_of_lists_go_on_where_fewer_ended(lay_out):
    grid = f"grid: {{run.seed: {list(range(65))}}}\nsearch: random\n"
    few, more = (lay_out(f"{grid}samples: {number}")[1] for number in (5, 16))
    assert [cell.name for cell in few] == [cell.name for cell in more[:5]]


def test_random_draws_the_same_cells_again(lay_out):
    ask = f"{GRID}search: random\nsamples: 3\n"
    names = [[cell.name for cell in lay_out(ask + seed)[1]] for seed in ("", "seed: 0", "seed: 5")]
    assert len(set(names[0])) == 3 and names[0] == names[1] != names[2]


def test_trials_that_may_be_ended_start_in_a_drawn_order(lay_out):
    plain, halved = (choice_of(*lay_out(GRID + stop, OFTEN)) for stop in ("", "stop: asha"))
    other = choice_of(*lay_out(GRID + "stop: asha\nseed: 1", OFTEN))
    assert sorted(plain.names) == sorted(halved.names) == sorted(other.names)
    assert len({tuple(c.names) for c in (plain, halved, other)}) == 3
    left = halved.ask({halved.names[0]: 1.0}, [])
    assert left.space["cell"]["grid_search"] == halved.names[1:]


SHIPPED = {
    "mask_grid": (9, []),
    "mask_photos": (15, []),
    # as its own command has them, a place for train and one for val
    "mask_paper": (65, ["data.train=builtin:photos/train", "data.val=builtin:photos/val"]),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_sweeps_that_are_shipped_fit(name):
    count, words = SHIPPED[name]
    sweep, cells = load_sweep(f"tuning/{name}.yaml", words)
    assert len(cells) == count
    if name == "mask_paper":
        sweep.finetune.set["optim.batch"] = (
            512  # the shipped photos are fewer than ImageNet's batch
        )
    check_objective(objective_of(sweep, cells), cells)
