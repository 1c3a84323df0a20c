"""What a fine-tuning starts from: said by somebody, of the right encoder, and the same for all of a run."""

import json
import shutil
from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file

from mimray.cli import main
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.suite import TransferSet, lay_out
from mimray.mim.encoders import build_encoder
from mimray.recipe import load_recipe
from mimray.train.console import Console
from mimray.train.launch import launch
from mimray.train.record import Record
from mimray.train.tasks.check_finetuning import check_classifier
from mimray.train.tasks.classification import Classification
from mimray.verbs.finetune import overrides
from mimray.weights import load
from tests.train.finetuning import TINY, ask, finetune, job_of, recipe_of, tensors_of

pytestmark = pytest.mark.unit

SHORT = ["schedule.length=2it", "run.validate_every=2it", "run.checkpoint_every=1it"]
TIMM = "supervised:timm/some_vit"


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """A run of mimray's own with labels from scratch, of two checkpoints."""
    folder = tmp_path_factory.mktemp("supervised")
    words = ["supervised_demo", *ask(folder, *SHORT)[1:]]
    assert main(["finetune", *words, "--here", "--json"]) == 0
    return folder / "run"


def refused(capsys, *words):
    assert main(["finetune", *words, "--here"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line.removeprefix("mimray: ")


# ----- what it may be -----------------------------------------------------------------------------------


def test_it_starts_from_a_pre_training_of_mimray(tmp_path):
    words = [*TINY, "head.kind=linear", "mask.unit=16", f"run.storage={tmp_path}", "run.name=mim"]
    launch(load_recipe("demo", words), Console(), lambda rows, title: b"", here=True)
    run = tmp_path / "mim"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    record, _ = finetune(tmp_path, f"model.weights={run}", "schedule.length=3it")
    assert list(record["files"]) == [str(run)]
    recipe = recipe_of(tmp_path, f"model.weights={run}")
    fresh = Classification(recipe, 10, None, None).build(fresh=True)
    report = load(fresh, run)
    assert "encoder.patch_embed.proj.weight" in report.matched


def test_it_starts_from_a_supervised_run_of_mimray(tmp_path, supervised):
    record, _ = finetune(tmp_path, f"model.weights={supervised}", "schedule.length=1it")
    assert record["weights"] == str(supervised)
    assert record["weights_at"] == str(supervised / "checkpoints/step-00000002")


def test_a_supervised_run_is_told_as_such_where_checkpoints_are_compared(tmp_path, supervised):
    found = open_checkpoint(str(supervised))
    assert (found.kind, found.encoder, found.finetuned) == ("supervised", "vit_nano", True)
    assert found.build().family == "vit"
    sets = [TransferSet("photos", "builtin:photos/train", "builtin:photos/val")]
    suite = lay_out([str(supervised)], sets, (0,), "finetune_transfer", [], tmp_path)
    assert [one.kind for one in suite.checkpoints.values()] == ["supervised"]
    assert suite.cells[0].recipe.model.weights.startswith(str(supervised))


def test_a_head_of_as_many_classes_is_not_taken_over(supervised):
    recipe = recipe_of(supervised.parent, f"model.weights={supervised}")
    task = Classification(recipe, 10, None, None)
    torch.manual_seed(0)
    fresh = task.build(fresh=False).state_dict()
    torch.manual_seed(0)
    filled, saved = task.build(fresh=True).state_dict(), tensors_of(supervised.parent, step=2)
    assert torch.equal(filled["classifier.weight"], fresh["classifier.weight"])
    for name in ("encoder.patch_embed.proj.weight", "fc_norm.weight"):
        assert torch.equal(filled[name], saved[name])


@pytest.mark.parametrize("words", [["model.weights=null"], ["model.weights=scratch"]])
def test_from_scratch_is_said_by_a_setting_too(tmp_path, words):
    recipe = recipe_of(tmp_path, *words)
    assert recipe.model.weights is None and recipe.model.start_is_said
    assert recipe.digest() == recipe_of(tmp_path).digest()
    assert not recipe_of(tmp_path).model.start_is_said


def test_the_word_scratch_is_no_folder_s_name(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    for word, setting in (("scratch", "scratch"), ("mine", tmp_path / "mine")):
        arguments = Namespace(weights=word, overrides=["run.seed=1"])
        assert overrides(arguments) == ["run.seed=1", f"model.weights={setting}"]


def test_weights_of_another_encoder_are_refused_in_the_user_s_words(tmp_path, capsys, supervised):
    words = ask(tmp_path, "model.encoder=swin_nano", "model.image_size=96")
    says = (
        f"{supervised}: holds weights of vit_nano, and the recipe's encoder is swin_nano; "
        "set model.encoder=vit_nano, or name other weights"
    )
    assert refused(capsys, *words, "--from", str(supervised)) == f"--from {says}"
    assert refused(capsys, *words, f"model.weights={supervised}") == f"model.weights={says}"


def test_what_loading_did_is_said(tmp_path, capsys, supervised):
    task = Classification(recipe_of(tmp_path, f"model.weights={supervised}"), 10, None, None)
    assert len(task.lines()) == 1
    check_classifier(task)
    _, told = task.lines()
    report = task.report
    assert report.matched and told.startswith(
        f"weights: {len(report.matched)} matched, 0 resized, "
    )
    finetune(tmp_path, f"model.weights={supervised}", "schedule.length=1it")
    assert told in capsys.readouterr().err


def test_a_doubt_about_swinv2_s_windows_is_said(tmp_path):
    """Of a file that does not tell at which its position bias was learned."""
    state = build_encoder("swinv2_nano", 96, 6).state_dict()
    untold = {
        f"encoder.{n}": t for n, t in state.items() if "windows" not in n and "coords" not in n
    }
    save_file(untold, tmp_path / "v2.safetensors")
    words = ["model.encoder=swinv2_nano", "model.image_size=96", "model.window=6"]
    recipe = recipe_of(tmp_path, *words, f"model.weights={tmp_path / 'v2.safetensors'}")
    task = Classification(recipe, 10, None, None)
    check_classifier(task)
    assert "right if its position bias was learned at windows (6" in task.lines()[-1]


# ----- what has changed since ---------------------------------------------------------------------------


def a_run(place):
    return place


def a_checkpoint(place):
    return place / "checkpoints/step-00000002"


def a_file(place):
    return place / "checkpoints/step-00000002/model.safetensors"


def finished(folder, weights):
    """A fine-tuning that has ended, without the training."""
    job = job_of(folder, f"model.weights={weights}")
    job.run.make()
    Record(job).save(status="finished", final={"val/top1": 0.5})
    return ask(folder, f"model.weights={weights}", "--json")


def train_on(place):
    """The run's newest checkpoint holds other weights, as whole as they were."""
    newest, before = (place / f"checkpoints/step-0000000{step}" for step in (2, 1))
    shutil.rmtree(newest)
    shutil.copytree(before, newest)


@pytest.mark.parametrize("named", [a_run, a_checkpoint, a_file])
def test_a_finished_run_is_shown_until_what_it_started_from_changes(
    tmp_path, capsys, supervised, named
):
    place = tmp_path / "mim"
    shutil.copytree(supervised, place)
    weights = named(place)
    words = finished(tmp_path, weights)
    assert main(["finetune", *words, "--here"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == 0.5
    train_on(place)
    says = f"run.name=run was started from other weights than {weights} holds now"
    says += f" (those of {place}/checkpoints/step-00000002)" if named is a_run else ""
    assert refused(capsys, *words) == f"{says}; choose another run.name"
    shutil.rmtree(place)
    assert main(["finetune", *words, "--here"]) == 0


def test_so_it_is_of_timm_s_weights(tmp_path, capsys, supervised, monkeypatch):
    cache = tmp_path / "model.safetensors"
    shutil.copy(a_file(supervised), cache)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda name, file: str(cache) if cache.exists() else None,
    )
    words = finished(tmp_path, TIMM)
    assert main(["finetune", *words, "--here"]) == 0
    shutil.copy(supervised / "checkpoints/step-00000001/model.safetensors", cache)
    line = refused(capsys, *words)
    assert line.startswith(f"run.name=run was started from other weights than {TIMM} holds now")
    cache.unlink()
    assert main(["finetune", *words, "--here"]) == 0


def test_a_run_that_has_not_ended_does_not_go_on_from_other_weights(tmp_path, capsys, supervised):
    place = tmp_path / "mim"
    shutil.copytree(supervised, place)
    words = finished(tmp_path, place)
    record = tmp_path / "run/run.json"
    record.write_text(record.read_text().replace('"finished"', '"stopped"'))
    train_on(place)
    assert "was started from other weights than" in refused(capsys, *words)
