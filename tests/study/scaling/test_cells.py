"""What a study may say, and its cells."""

import pytest
import torch

from mimray.errors import UserError
from mimray.mim.encoders import build_encoder
from mimray.optim import parameter_count
from mimray.recipe import load_recipe
from mimray.study.scaling.cells import as_yaml, load_study, stretched
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import open_study

pytestmark = pytest.mark.unit
torch.set_num_threads(1)

SMALL = """
recipe: demo
set: {model.image_size: 32, model.window: null, mask.unit: 8, speed.workers: 1, optim.batch: 16}
"""
REST = """
encoders: {nano: vit_nano}
subsets: {photos 10%: 10%, photos 100%: 100%}
lengths: [10, 20]
"""


@pytest.fixture
def lay_out(tmp_path):
    def load(text=REST, *overrides, head=SMALL):
        file = tmp_path / "tiny.yaml"
        file.write_text(head + text)
        return load_study(str(file), [f"run.storage={tmp_path / 'runs'}", *overrides])

    return load


def test_every_encoder_on_every_subset_for_every_length(lay_out):
    laid = lay_out()
    values = [tuple(cell.values.values()) for cell in laid.cells]
    assert values == [
        ("nano", subset, length) for subset in ("photos 10%", "photos 100%") for length in (10, 20)
    ]
    tenth, whole = laid.cells[0].recipe, laid.cells[2].recipe
    assert (tenth.data.subset, whole.data.subset) == ("10%", None)
    assert tenth.schedule.length == "10it" and tenth.run.experiment == "tiny"
    assert laid.cells[0].name == f"tiny-{tenth.digest()[:8]}"
    assert len({cell.name for cell in laid.cells}) == 4


def test_several_seeds_are_runs_of_their_own(lay_out):
    laid = lay_out(REST + "seeds: [0, 7]")
    assert [cell.recipe.run.seed for cell in laid.cells[:4]] == [0, 7, 0, 7]
    assert len({cell.name for cell in laid.cells}) == 8


@pytest.mark.parametrize(
    ("words", "warmup", "milestones"),
    [
        (["schedule.length=1000it", "schedule.warmup=100it"], "10%", ("87.5%",)),
        (["schedule.length=800ep", "schedule.warmup=10ep"], "1.25%", ("87.5%",)),
        (["schedule.length=16000img", "schedule.warmup=50it"], "5%", ("87.5%",)),
        (
            ["schedule.length=200it", "schedule.warmup=5%", "schedule.kind=multistep",
             "schedule.milestones=[100it, 175it]"], "5%", ("50%", "87.5%"),
        ),
    ],
)  # fmt: skip
def test_schedules_are_stretched_and_not_cut(words, warmup, milestones):
    schedule = stretched(load_recipe("demo", ["optim.batch=16", *words]), 4000)
    assert (schedule.length, schedule.warmup) == ("4000it", warmup)
    assert schedule.milestones == milestones


def test_epochs_are_no_share_of_iterations(lay_out):
    with pytest.raises(
        UserError, match=r"schedule.warmup=10ep .* write schedule.warmup as a share"
    ):
        lay_out(REST, "schedule.warmup=10ep")


def test_the_small_swins_grow_by_equal_factors():
    sizes = [
        parameter_count(build_encoder(f"swin_{name}", 64, 4).parameters())
        for name in ("nano", "micro", "mini")
    ]
    assert sizes == [901_286, 2_018_553, 4_526_337]


def test_its_folder_says_the_same_again(lay_out, monkeypatch):
    laid = lay_out(REST + "tasks: [knn]", "run.tracking=off", "data.val_seed=3")
    folder = StudyFolder(laid)
    folder.begin()
    monkeypatch.chdir("/")
    again = load_study(folder.place, [])
    assert as_yaml(again.study) == as_yaml(laid.study)
    assert [c.name for c in again.cells] == [c.name for c in laid.cells]
    assert again.cells[0].recipe == laid.cells[0].recipe


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "not a study"),
        ("", "not a study: it holds no settings"),
        ("recipe: demo\nrecipe: demo", "recipe is set twice"),
        ("encodrs: [vit_nano]", "encodrs is not a setting of a study; did you mean encoders"),
        ("encoders: [vit_nano]\nlengths: [1]", "has no subsets; a study needs recipe, encoders"),
        (REST.replace("[10, 20]", "[]"), "lengths=[]: list should have at least 1 item"),
        (REST.replace("[10, 20]", "[10, 10]"), "lengths has a value twice"),
        (REST.replace("[10, 20]", "[0]"), "lengths.0=0"),
        (REST.replace("vit_nano", "vit_nanno"), "vit_nanno is not known; did you mean vit_nano"),
        (REST.replace("10%: 10%", "10%: {data.subst: 10%}"), "data.subst is not a setting"),
        (REST + "tasks: [knnn]", "tasks has no knnn; it may have knn, linear"),
        (
            REST.replace("100%: 100%", "two: 10%"),
            "is the same run as nano, photos 10%, 10 iterations",
        ),
        (
            REST.replace("vit_nano}", "{model.encoder: vit_nano, mask.ratio: 0.5}, b: vit_nano}"),
            "for mask differs",
        ),
        (
            REST.replace("vit_nano}", "vit_nano, b: {model.image_size: 64}}"),
            "for model.image_size differs",
        ),
        (
            REST.replace("100%: 100%", "other: {data.train: /elsewhere, data.val: null}"),
            "for data.val differs; set it for all cells",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(lay_out, text, says):
    with pytest.raises(UserError) as told:
        lay_out(text, head="" if text in ("", "[1, 2]") else SMALL)
    assert says in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("word", "owner"),
    [
        ("run.seed=5", "seeds"),
        ("data.subset=50%", "subsets"),
        ("model.encoder=vit_tiny", "encoders"),
        ("schedule.length=5000it", "lengths"),
        ("run.name=x", "name"),
        ("run.experiment=x", "name"),
    ],
)
def test_what_the_study_says_itself_is_refused_elsewhere(lay_out, word, owner):
    name, _, value = word.partition("=")
    with pytest.raises(
        UserError, match=f"{name} behind the file does nothing, .* under {owner}: in"
    ):
        lay_out(REST, word)
    with pytest.raises(UserError, match=f"{name} in set does nothing, .* under {owner}:"):
        lay_out(head=SMALL.replace("set: {", f"set: {{{name}: {value}, "))
    if owner != "encoders":
        text = REST.replace("nano: vit_nano", f"nano: {{model.encoder: vit_nano, {name}: {value}}}")
        with pytest.raises(UserError, match=f"{name} in encoders.nano does nothing"):
            lay_out(text)


def test_a_word_that_each_encoder_says_itself_is_refused(lay_out):
    each = REST.replace(
        "vit_nano}", "{model.encoder: vit_nano, optim.lr: 0.1}, b: {model.encoder: vit_nano}}"
    )
    rates = [cell.recipe.optim.lr for cell in lay_out(each, "optim.lr=0.2").cells]
    assert rates == [0.1] * 4 + [0.2] * 4
    every = each.replace("b: {", "b: {optim.lr: 0.3, ")
    with pytest.raises(
        UserError, match=r"optim\.lr does nothing, for each of encoders: has its own"
    ):
        lay_out(every, "optim.lr=0.2")


def test_held_out_pictures_of_other_data_do_not_compare(lay_out):
    text = REST.replace("100%: 100%", "other: {data.train: /elsewhere}")
    with pytest.raises(UserError, match=r"held-out pictures are from other data; set data\.val"):
        lay_out(text, "data.train=builtin:photos/train")


def test_a_study_that_is_none():
    with pytest.raises(UserError, match=r"no study 'nowhere\.yaml': a YAML file, like"):
        load_study("nowhere.yaml", [])


# ----- its pictures and steps -----------------------------------------------------------------------------


def opened(laid):
    folder = StudyFolder(laid)
    return open_study(laid, folder), folder


def test_no_more_training_pictures_are_looked_at_than_there_are_to_validate_on(lay_out):
    text = REST.replace("photos 10%: 10%", "photos 50%: 50%")
    _, folder = opened(lay_out(text, "run.tracking=off"))
    assert min(folder.images.values()) == 440
    assert folder.compared == folder.val == 120


def test_as_many_training_pictures_are_looked_at_in_all_cells(lay_out):
    steps, folder = opened(lay_out(REST, "run.tracking=off"))
    assert folder.images == {"photos 10%": 88, "photos 100%": 880}
    assert (folder.val, folder.compared) == (120, 88)
    assert [step.name for step in steps] == ["pretrain", "losses"]
    assert folder.params["nano"] > 1e6


def test_a_manifest_of_other_data_is_refused(lay_out, tmp_path):
    from mimray.data.sources import open_source
    from mimray.data.subset import choose, write_manifest

    source = open_source("builtin:photos/val")
    write_manifest(str(tmp_path / "some.parquet"), source, choose(source, 0.5), {})
    laid = lay_out(REST.replace("100%: 100%", f"some: {tmp_path / 'some.parquet'}"))
    with pytest.raises(
        UserError, match=r"nano, photos some, 10 iterations: .* written for other data"
    ):
        opened(laid)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("tasks: [knn]", "knn: .* has no labels.*, or leave out finetune and tasks$"),
        ("tasks: [linear]", "linear: .* has no labels"),
        (
            "finetune: {recipe: finetune_demo, set: {optim.batch: 2}}",
            "finetune: .* has no labels.*, or leave out finetune and tasks$",
        ),
    ],
)
def test_a_task_without_labels_is_refused(lay_out, tmp_path, more, says):
    from mimray.data.sources import open_source

    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for number, data in enumerate(open_source(f"builtin:photos/{split}").read(range(40))):
            (tmp_path / split / f"{number}.jpg").write_bytes(data)
    words = [f"data.{split}={tmp_path / split}" for split in ("train", "val")]
    laid = lay_out(REST.replace("photos 10%: 10%", "half: 50%") + more, *words)
    with pytest.raises(UserError, match=says) as told:
        opened(laid)
    assert "\n" not in str(told.value)


def test_a_task_needs_pictures_to_test_on(lay_out):
    laid = lay_out(REST + "tasks: [knn]", "data.train=builtin:photos/train")
    with pytest.raises(UserError, match=r"tasks\.knn needs pictures with labels to test on"):
        opened(laid)
