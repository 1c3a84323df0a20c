"""Fine-tuning through the loop that pre-trains, in this process, on the shipped photos."""

import json

import pytest
import torch

from mimray.cli import main
from mimray.data.sources import open_source
from mimray.recipe import load_finetune_recipe, load_recipe
from mimray.train.console import Console
from mimray.train.launch import launch
from mimray.train.run_folder import RunFolder
from mimray.train.tasks.classification import Classification
from mimray.weights import load

pytestmark = pytest.mark.unit

TINY = [
    *("model.encoder=vit_nano", "model.image_size=32", "model.window=null", "optim.batch=16"),
    *("schedule.length=6it", "schedule.warmup=1it", "run.validate_every=3it", "run.log_every=1it"),
    *("run.checkpoint_every=3it", "run.tracking=off", "speed.loader=torch"),
    "speed.loader_processes=0",
]
MIXED = ["augment.mixup=0.8", "augment.cutmix=1.0", "augment.erasing=0.25", "optim.average=0.5"]


def ask(folder, *words, name="run"):
    """What the verb is asked."""
    return ["finetune_demo", *TINY, f"run.storage={folder}", f"run.name={name}", *words]


def finetune(folder, *words, name="run"):
    """The record and rows of a run to its end."""
    recipe = load_finetune_recipe("finetune_demo", ask(folder, *words, name=name)[1:])
    record, _ = launch(recipe, Console(), lambda rows, title: b"", here=True)
    return record, RunFolder.of(recipe).rows()


def weights_of(folder, name="run", step=6):
    from safetensors.torch import load_file

    return load_file(folder / name / f"checkpoints/step-{step:08d}/model.safetensors")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    return folder, *finetune(folder, *MIXED)


def test_a_run_of_its_own_kind(mixed):
    folder, record, rows = mixed
    assert record["status"] == "finished" and record["kind"] == "finetune"
    assert record["classes"] == 10 and record["photos"] == {"train": 880, "val": 120}
    assert [row["step"] for row in rows] == list(range(1, 7))
    evaluated = [row for row in rows if "val/top1" in row]
    assert [row["step"] for row in evaluated] == [3, 6]
    final = record["final"]
    assert final["val/top1"] == evaluated[-1]["val/top1"]
    assert final["val/top1_best"] == max(row["val/top1"] for row in evaluated)
    assert 0 <= final["val/top1"] <= final["val/top5"] <= 1
    assert 0 <= final["val/mean_per_class"] <= 1
    assert "mask" not in record and "classifier.weight" in weights_of(folder)


@pytest.mark.parametrize("micro", [3, 4, 16])
def test_the_result_does_not_depend_on_the_micro_batch(tmp_path, mixed, micro):
    record, rows = finetune(tmp_path, *MIXED, f"speed.micro_batch={micro}")
    for row, other in zip(rows, mixed[2], strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)
    assert record["final"]["val/loss"] == pytest.approx(mixed[1]["final"]["val/loss"], rel=1e-4)


def test_it_goes_on_to_the_bit(tmp_path, mixed, monkeypatch):
    from mimray.train import mailbox

    monkeypatch.setattr(mailbox.LocalPost, "stop_requested", lambda self: self.starts == 0)
    with pytest.raises(Exception, match="stopped at step 1; the same command goes on"):
        finetune(tmp_path, *MIXED)
    record, rows = finetune(tmp_path, *MIXED)
    assert [start["step"] for start in record["starts"]] == [0, 1]
    assert [row["step"] for row in rows] == list(range(1, 7))
    ours, theirs = weights_of(tmp_path), weights_of(mixed[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert record["final"]["val/top1_average"] == mixed[1]["final"]["val/top1_average"]


def test_it_starts_from_a_pre_training_of_mimray(tmp_path):
    words = [*TINY, "head.kind=linear", "mask.unit=16", f"run.storage={tmp_path}", "run.name=mim"]
    launch(load_recipe("demo", words), Console(), lambda rows, title: b"", here=True)
    run = tmp_path / "mim"
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    record, _ = finetune(tmp_path, f"model.weights={run}", "schedule.length=3it")
    assert list(record["files"]) == [str(run)]
    recipe = load_finetune_recipe("finetune_demo", [*ask(tmp_path)[1:], f"model.weights={run}"])
    fresh = Classification(recipe, 10, None, None).build(fresh=True)
    report = load(fresh, run)
    assert "encoder.patch_embed.proj.weight" in report.matched


def test_few_labels(tmp_path):
    record, _ = finetune(tmp_path, "data.labels=10%", "schedule.length=3it")
    labels = open_source("builtin:photos/train").labels()
    counts = [max(1, round(0.1 * int((labels == c).sum()))) for c in range(10)]
    assert record["photos"]["train"] == sum(counts)


def write_folder(folder, classes, each=3):
    from PIL import Image

    for name in classes:
        (folder / name).mkdir(parents=True)
        for k in range(each):
            colour = (40 * k, 255 if name == classes[0] else 0, 128)
            Image.new("RGB", (32, 32), colour).save(folder / name / f"{k}.png")


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (["a", "b"], ["a", "c"], "class 'b' is in"),
        (["a"], ["a"], "has one class"),
    ],
)
def test_classes_that_do_not_fit(tmp_path, capsys, train, val, words):
    write_folder(tmp_path / "t", train, 20)
    write_folder(tmp_path / "v", val)
    data = [f"data.train={tmp_path}/t", f"data.val={tmp_path}/v"]
    assert main(["finetune", *ask(tmp_path, *data), "--here"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--from", "/nowhere"], "model.weights: /nowhere: no such file or folder"),
        (["--from", "supervised:timm/none.such"], "nothing is downloaded by itself"),
        (["data.labels=200%"], "is not a share"),
        (["augment.randaugment=rand-x"], "augment.randaugment"),
        (["model.encoder=swin_bas"], "is not known; did you mean swin_base"),
        (["model.visible_only=true"], "is of pre-training"),
    ],
)
def test_a_user_s_mistakes(tmp_path, capsys, words, says):
    assert main(["finetune", *ask(tmp_path), "--here", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not (tmp_path / "run").exists()


def test_weights_of_another_encoder_are_refused(tmp_path, capsys, mixed):
    words = ["model.encoder=swin_nano", "model.image_size=96", "--from", str(mixed[0] / "run")]
    assert main(["finetune", *ask(tmp_path), *words]) == 2
    assert "weights of" in capsys.readouterr().err


def test_the_verb_prints_one_object(tmp_path, capsys):
    assert main(["finetune", *ask(tmp_path, "schedule.length=3it"), "--here", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["top1_best"] == found["top1"] and found["weights"] is None and found["classes"] == 10
    )
    assert main(["finetune", *ask(tmp_path, "schedule.length=3it"), "--here"]) == 0
    assert "is finished" in capsys.readouterr().out


def test_speed_is_made_to_fit_this_process(tmp_path, mixed):
    record, _ = finetune(tmp_path, *MIXED, "speed.workers=2", "speed.loader=ray")
    assert record["starts"][0]["workers"] == 1
    assert record["final"]["val/loss"] == pytest.approx(mixed[1]["final"]["val/loss"], rel=1e-4)


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path, monkeypatch, caplog):
    from mimray.train import mailbox

    monkeypatch.setattr(mailbox.LocalPost, "stop_requested", lambda self: self.starts == 0)
    with pytest.raises(Exception, match="stopped at step 1"):
        finetune(tmp_path)
    weights = tmp_path / "run/checkpoints/step-00000001/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    record, _ = finetune(tmp_path)
    assert [start["step"] for start in record["starts"]] == [0, 0]
    assert "is not complete (model.safetensors is damaged)" in caplog.text


def test_a_head_of_as_many_classes_is_not_taken_over(mixed):
    words = [*ask(mixed[0])[1:], f"model.weights={mixed[0]}/run"]
    task = Classification(load_finetune_recipe("finetune_demo", words), 10, None, None)
    torch.manual_seed(0)
    fresh = task.build(fresh=False).state_dict()
    torch.manual_seed(0)
    filled, saved = task.build(fresh=True).state_dict(), weights_of(mixed[0])
    assert torch.equal(filled["classifier.weight"], fresh["classifier.weight"])
    assert torch.equal(filled["encoder.patch_embed.proj.weight"],
                       saved["encoder.patch_embed.proj.weight"])  # fmt: skip
