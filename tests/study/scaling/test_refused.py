"""What a study refuses in its user's interest: pictures that nobody named, words at the wrong place."""

import pytest
import torch

from mimray.errors import UserError
from mimray.recipe import builtin_recipes
from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import open_study
from tests.study.scaling.test_cells import REST, SMALL

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


@pytest.fixture
def lay_out(tmp_path):
    def load(text, *overrides, head=SMALL):
        file = tmp_path / "tiny.yaml"
        file.write_text(head + text)
        return load_study(str(file), [f"run.storage={tmp_path / 'runs'}", *overrides])

    return load


MY_SUBSETS = (
    "photos 10%: 10%, photos 100%: 100%",
    ", ".join(f"{name}: {{data.train: /my/{name}, data.val: /my/val}}" for name in "ab"),
)


def opened(laid):
    return open_study(laid, StudyFolder(laid))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("finetune: {recipe: finetune_demo}", r"finetune would take data\.train=builtin:photos/train .*"
         r"; write finetune: \{set: "),
        ("finetune: {set: {data.train: /my/labelled}}", "finetune would take"),
        ("tasks: [knn]", r"tasks\.knn would take .*; write knn: \{train: URI, val: URI\}"),
    ],
)  # fmt: skip
def test_my_subsets_are_not_judged_on_pictures_of_the_recipe(lay_out, more, says):
    text = REST.replace(*MY_SUBSETS)
    with pytest.raises(UserError, match=says):
        opened(lay_out(text + more))
    with pytest.raises(UserError, match=says.replace(r"builtin:photos/train", "/lab/train")):
        opened(lay_out(text + more, "data.train=/lab/train"))  # it has no data.val of its own
    in_set = SMALL.rstrip().removesuffix("}") + ", data.train: /lab/train, data.val: /lab/val}\n"
    for named in (
        ["data.train=/my/a", "data.val=/my/val"],
        ["data.train=/lab/train", "data.val=/lab/val"],
    ):
        with pytest.raises(UserError, match="/my/a: no such file"):  # it goes on
            opened(lay_out(text + more, *named))
    with pytest.raises(UserError, match="/my/a: no such file"):
        opened(lay_out(text + more, head=in_set))


@pytest.mark.parametrize(
    ("more", "word", "refused"),
    [
        ("finetune: {set: {data.val: /lab/val}}", "data.train=/lab/train", False),
        ("finetune: {set: {data.val: /lab/val}}", "data.val=/lab/val", True),
        ("finetune: {set: {data.train: /lab/train}}", "data.val=/lab/val", False),
        ("tasks: {knn: {val: /lab/val}}", "data.train=/lab/train", False),
        ("tasks: {knn: {val: /lab/val}}", "data.val=/lab/val", True),
        ("tasks: {knn: {train: /lab/train, val: /lab/val}}", "data.upright=false", False),
    ],
)
def test_half_of_the_pictures_may_be_named_elsewhere(lay_out, more, word, refused):
    says = "would take data.train=builtin" if refused else "/my/a: no such file"
    with pytest.raises(UserError, match=says):
        opened(lay_out(REST.replace(*MY_SUBSETS) + more, word))


def test_a_batch_too_large_is_told_of_the_smallest_subset(lay_out):
    text = REST.replace("photos 10%: 10%", "photos 5%: 5%, photos 10%: 10%")
    with pytest.raises(
        UserError, match=r"photos 5%, .*: 44 photos .* set optim\.batch=44 or lower"
    ):
        opened(lay_out(text, "optim.batch=100"))


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ("optim.batch: 4096", r"^study tiny, b, photos 10%, 10 iterations: .*: 88 photos .*"
         r"\(optim\.batch=4096\); set optim\.batch=88 or lower"),
        ("schedule.warmup: 2000it", r"^study tiny, b, photos 10%, 10 iterations: schedule\.warmup=200% is "
         r"longer than the run"),
    ],
)  # fmt: skip
def test_what_one_encoder_alone_cannot_do(lay_out, own, says):
    """Others have pictures enough, and reach their learning rate."""
    assert "encoders: {nano: vit_nano}" in REST
    both = f"encoders: {{a: vit_nano, b: {{model.encoder: vit_nano, {own}}}}}"
    with pytest.raises(UserError, match=says):
        opened(lay_out(REST.replace("encoders: {nano: vit_nano}", both)))


def test_a_word_that_belongs_into_the_file(lay_out):
    with pytest.raises(
        UserError, match=r"'tasks=\[knn\]': tasks is of the study .* is to say `tasks: \[knn\]`"
    ):
        lay_out(REST, "tasks=[knn]")


def test_tracking_that_is_off_in_the_file(lay_out):
    text = SMALL.replace("set: {", "set: {run.tracking: off, ")
    assert all(cell.recipe.run.tracking == "off" for cell in lay_out(REST, head=text).cells)


def test_it_is_read_from_any_folder(lay_out, tmp_path, monkeypatch):
    for name, file in (("own", "demo"), ("tuned", "finetune_demo")):
        (tmp_path / f"{name}.yaml").write_text(builtin_recipes()[file].read_text())
    monkeypatch.chdir(tmp_path)
    before = SMALL.replace("recipe: demo", "recipe: own.yaml")
    laid = lay_out(REST + "finetune: {recipe: tuned.yaml}", head=before)
    folder = StudyFolder(laid)
    folder.files.make()
    folder.begin()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load_study(folder.place, [])
    assert [cell.name for cell in again.cells] == [cell.name for cell in laid.cells]
    assert again.study.finetune.recipe == str(tmp_path / "tuned.yaml")
