"""What a sweep may say, its cells, how many trials fit a cluster, and what ends one."""

import json
from pathlib import Path

import pytest
import torch

from mimray.errors import Stopped, UserError
from mimray.evaluate.workers import Share
from mimray.recipe import Mask, load_finetune_recipe, load_recipe
from mimray.study.placing import Plan, placed, plan_all, plan_trials
from mimray.study.sweeps.choosing import choice_of
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.grid import load_sweep
from mimray.study.sweeps.objective import check_objective, objective_of
from mimray.study.sweeps.sweep import Stop
from mimray.study.sweeps.table import sweep_rows
from mimray.study.sweeps.trial import WORST, Reporter, Trial
from mimray.train.fence import identity
from mimray.train.resources import Node
from mimray.train.run_folder import RunFolder

pytestmark = pytest.mark.unit
torch.set_num_threads(1)

SMALL = (
    "set: {model.encoder: vit_nano, model.image_size: 32, model.window: null, speed.workers: 1}\n"
)
OFTEN = "run.validate_every=10%"
GRID = "grid: {mask.unit: [8, 16], mask.ratio: [0.25, 0.5, 0.7]}\n"


@pytest.fixture
def lay_out(tmp_path):
    def load(text, *overrides, head=f"recipe: demo\n{SMALL}"):
        file = tmp_path / "tiny.yaml"
        file.write_text(head + text)
        return load_sweep(str(file), [f"run.storage={tmp_path / 'runs'}", *overrides])

    return load


# ----- what it may say ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("grids: {mask.unit: [8]}", "grids is not a setting of a sweep; did you mean grid?"),
        ("samples: 3", "has no grid; a sweep needs a recipe and a grid"),
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


# ----- objectives -----------------------------------------------------------------------------------------


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


# ----- how many at once -----------------------------------------------------------------------------------


ONE, FOUR, GPU = Share(1), Share(4), Share(8, 1)


def demo(*words):
    return load_recipe("demo", [*words])


@pytest.mark.parametrize(
    ("words", "hosts", "plan"),
    [
        (["speed.workers=1"], [Node("a", 2, 0)], Plan(Share(2), Share(2), 1)),
        (["speed.workers=1"], [Node("a", 32, 0), Node("b", 16, 0)], Plan(FOUR, FOUR, 12)),
        (["speed.workers=1", "speed.cpus_per_worker=1"], [Node("a", 8, 0)], Plan(ONE, ONE, 8)),
        (["speed.workers=1"], [Node("a", 64, 8), Node("b", 64, 8)], Plan(GPU, GPU, 16)),
        (["speed.workers=1", "speed.device=cpu"], [Node("a", 64, 8)], Plan(FOUR, FOUR, 16)),
        (["speed.workers=2"], [Node("a", 2, 0)], Plan(Share(0), Share(2), 1)),
        (["speed.workers=2"], [Node("a", 3, 0)], Plan(Share(0), Share(3), 1)),
        (["speed.workers=2"], [Node("a", 16, 0)], Plan(Share(0), Share(3), 5)),
        (["speed.workers=4"], [Node("a", 64, 8), Node("b", 64, 8)], Plan(Share(0), GPU, 4)),
    ],
)
def test_as_many_trials_as_there_is_room_for(words, hosts, plan):
    assert plan_trials(demo(*words), hosts) == plan


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["speed.workers=1", "speed.device=gpu"], "the cluster has none"),
        (["speed.workers=1", "speed.cpus_per_worker=5"], "the largest host has 4 CPUs free"),
        (["speed.workers=64"], "64 trainers of 0.25 CPU"),
    ],
)
def test_a_trial_that_does_not_fit_the_cluster(words, says):
    with pytest.raises(UserError, match=says):
        plan_trials(demo(*words), [Node("a", 4, 0)])


def test_a_cluster_in_use_has_no_room():
    with pytest.raises(UserError, match="no host of the cluster has a whole CPU free"):
        plan_trials(demo("speed.workers=1"), [Node("a", 0.5, 0)])


def test_trials_side_by_side_take_the_same():
    alone, two = demo("speed.workers=1"), demo("speed.workers=2")
    assert plan_all([two, two], [Node("a", 16, 0)]) == plan_trials(two, [Node("a", 16, 0)])
    with pytest.raises(UserError, match=r"set speed\.workers"):
        plan_all([alone, two], [Node("a", 16, 0)])


def test_a_trial_trains_with_its_share():
    recipe, here = placed(demo("speed.workers=1"), Share(4, 1))
    assert here and recipe.speed.device == "gpu" and recipe.speed.loader_processes == 3
    recipe, here = placed(demo("speed.workers=2"), Share(0))
    assert not here and recipe == demo("speed.workers=2")


# ----- what Tune hears ------------------------------------------------------------------------------------


def trial_of(lay_out, *overrides):
    sweep, cells = lay_out(GRID, *overrides)
    objective = objective_of(sweep, cells)
    return Trial(cells[0], objective, objective.metric, Plan(ONE, ONE, 1), None)


def begun(trial, rows):
    run = RunFolder.of(trial.cell.recipe)
    run.make()
    run.write_record({"recipe_digest": "x", "status": "running", "total_steps": 10})
    run.append_rows(rows)


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


class Told:
    def __init__(self, name):
        self.trial_id = name


def verdicts(halving, curves):
    """Trials one after another, each to the end or until it is ended; where each of them was then."""
    ends = []
    for name, curve in curves.items():
        trial = Told(name)
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
    from mimray.study.sweeps.halving import Halving

    ended = []
    ends = verdicts(Halving(Stop(grace=0.1, reduction_factor=4), ended.append), CURVES)
    assert ends == [1.0, 1.0, 0.1, 1.0, 0.1]  # e is below the upper quarter of a, b, c, d
    assert [(r["run"], r["progress"]) for r in ended] == [("c", 0.1), ("e", 0.1)]


def test_halving_goes_on_where_an_earlier_start_was():
    from mimray.study.sweeps.halving import Halving

    whole = Halving(Stop(), lambda result: None)
    expected = verdicts(whole, CURVES)
    for known in range(1, 5):
        again = Halving(Stop(), lambda result: None)
        for (name, curve), end in list(zip(CURVES.items(), expected, strict=True))[:known]:
            again.remember(name, [point for point in curve if point[0] <= end])
        rest = dict(list(CURVES.items())[known:])
        assert verdicts(again, rest) == expected[known:]


def test_a_look_at_a_rung_is_not_missed_by_a_hair():
    from mimray.study.sweeps.halving import Halving

    halving = Halving(Stop(grace=0.1, reduction_factor=3), lambda result: None)  # 0.1 x 3 > 0.3
    curves = {
        name: [[step / 60, worth] for step in range(6, 61, 6)]
        for name, worth in (("a", 2.0), ("b", 3.0), ("c", 4.0))
    }
    curves["d"] = [[step / 60, 5.0 if step < 18 else 1.0] for step in range(6, 61, 6)]
    assert verdicts(halving, curves) == [1.0, 1.0, 1.0, 0.3]


def test_a_trial_at_its_end_is_not_ended():
    from mimray.study.sweeps.halving import Halving

    halving = Halving(Stop(grace=0.25, reduction_factor=2), pytest.fail)
    assert verdicts(halving, {"a": [[1.0, 2.0]], "b": [[1.0, 1.0]]}) == [1.0, 1.0]


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


# ----- its folder -----------------------------------------------------------------------------------------


def test_one_driver_at_a_time(lay_out, tmp_path):
    folder, other = SweepFolder(*lay_out(GRID)), SweepFolder(*lay_out(GRID))
    with folder.held():
        folder.save()
        with pytest.raises(UserError, match="tiny is under way in another process"), other.held():
            pytest.fail("two write one record")
        folder.note_failed("a", "so")
    with other.held():
        assert other.failures == {"a": "so"} and other.uid == folder.uid  # as the first one left it


def test_nothing_is_left_of_a_sweep_that_never_began(lay_out, tmp_path):
    with pytest.raises(UserError, match="why"), SweepFolder(*lay_out(GRID)).held():
        raise UserError("why")
    assert not (tmp_path / "runs").exists()


def test_a_trial_whose_process_was_killed_has_died(lay_out):
    sweep, cells = lay_out(GRID)
    objective, folder = objective_of(sweep, cells), SweepFolder(sweep, cells)
    trial = trial_of(lay_out)
    begun(trial, [])
    run = RunFolder.of(trial.cell.recipe)
    record = run.record() | {"final": {}, "steps": 4}
    run.write_record(record)
    holder = {"system": identity(1)["system"], "began": "long ago", "pid": 1}
    (Path(run.path) / "fence").mkdir()
    (Path(run.path) / "fence" / "00000001.token").write_text(json.dumps(holder))
    rows = sweep_rows(sweep, cells, objective, folder)
    assert [row["status"] for row in rows] == ["died"] + ["waiting"] * 5 and rows[0]["steps"] == 4


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
