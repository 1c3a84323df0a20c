"""Fine-tuning through the loop that pre-trains, in this process, on the shipped photos."""

import dataclasses
import errno
import json
import threading

import pytest
import torch

from mimray.cli import main
from mimray.data.collections import COLLECTIONS
from mimray.downstream.classifier import Classifier
from mimray.mim.encoders import build_encoder
from mimray.recipe import load_finetune_recipe
from mimray.train.group import Trainer
from mimray.train.mailbox import LocalPost
from mimray.train.run_folder import RunFolder
from mimray.train.tasks.accuracy import Accuracy
from mimray.train.tasks.classification import SCORES, Classification
from mimray.verbs.finetune import _print_table, summary
from mimray.weights import load
from tests.data.collection_fixtures import small
from tests.train.finetuning import MIXED, ask, finetune, job_of, recipe_of, tensors_of

pytestmark = pytest.mark.unit

SCRATCH = ["--from", "scratch"]


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
    assert "mask" not in record and "classifier.weight" in tensors_of(folder)


@pytest.mark.parametrize("micro", [3, 16])
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
    for kind in ("model", "optimizer"):
        ours, theirs = tensors_of(tmp_path, kind), tensors_of(mixed[0], kind)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert record["final"]["val/top1_average"] == mixed[1]["final"]["val/top1_average"]


def test_what_others_load_is_what_the_checkpoint_was_judged_by(mixed):
    folder, record, rows = mixed
    job = job_of(folder, *MIXED)
    job.post = LocalPost(lambda messages: None, 0, threading.Event())
    task = dataclasses.replace(job.task, recipe=recipe_of(folder))  # which keeps no average
    encoder = build_encoder("vit_nano", 32, finetune=True)
    model = Classifier(encoder, 10)
    load(model, folder / "run")
    loaded = Accuracy(task, job, Trainer(0, 1, torch.device("cpu"), False)).run(model, None)
    assert rows[-1]["val/top1_average"] != rows[-1]["val/top1"]
    for score in SCORES:
        assert loaded[score] == rows[-1][f"{score}_average"]
    manifest = json.loads((folder / "run" / record["checkpoint"] / "manifest.json").read_text())
    assert manifest["criterion"] == 1 - loaded["val/top1"]


def test_a_score_is_stated_after_the_last_epoch_and_at_its_best():
    final = Classification(None, 10, None, None).final(
        [
            {"step": 1, "val/top1": 0.5, "val/mean_per_class": 0.4, "val/top1_average": 0.1},
            {"step": 2, "train/loss": 1.0},
            {"step": 3, "val/top1": 0.3, "val/mean_per_class": 0.6, "val/top1_average": 0.2},
        ]
    )
    assert final == {
        **{"val/top1": 0.3, "val/top1_best": 0.5, "val/top1_average": 0.2},
        **{"val/mean_per_class": 0.6, "val/mean_per_class_best": 0.6, "val/top1_average_best": 0.2},
    }


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
        (["a", "b"], ["a", "c"], "class 'b' is among the pictures to train on ("),
        (["a"], ["a"], "has one class"),
    ],
)
def test_classes_that_do_not_fit(tmp_path, capsys, train, val, words):
    write_folder(tmp_path / "t", train, 20)
    write_folder(tmp_path / "v", val)
    data = [f"data.train={tmp_path}/t", f"data.val={tmp_path}/v"]
    assert main(["finetune", *ask(tmp_path, *data), "--here", *SCRATCH]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


def test_pictures_that_are_learned_are_not_tested(tmp_path, capsys):
    write_folder(tmp_path / "t", ["a", "b"], 20)
    data = [f"data.train={tmp_path}/t", f"data.val={tmp_path}/t"]
    assert main(["finetune", *ask(tmp_path, *data), "--here", *SCRATCH]) == 2
    assert "/t are the same pictures; a test needs others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "does not say what to start from: name it by --from CKPT, or --from scratch"),
        (["--from", "/nowhere"], "mimray: --from /nowhere: no such file or folder"),
        (["model.weights=/nowhere"], "mimray: model.weights: /nowhere: no such file or folder"),
        (
            ["--from", "supervised:timm/none.such"],
            "--from supervised:timm/none.such: not in Hugging",
        ),
        (["data.labels=200%"], "is not a share"),
        (["augment.randaugment=rand-x", *SCRATCH], "augment.randaugment"),
        (["model.encoder=swin_bas", *SCRATCH], "is not known; did you mean swin_base"),
        (["model.visible_only=true", *SCRATCH], "is of pre-training"),
        (["model.image_size=100000000", *SCRATCH], "less than or equal to 4096"),
        (["model.pretrained_windows=[6, 6]", *SCRATCH], "scales the position bias of a SwinV2"),
        (
            ["model.encoder=swinv2_nano", "model.pretrained_windows=[6, 6]", *SCRATCH],
            "names 2, and the encoder has 3 stages",
        ),
    ],
)
def test_a_user_s_mistakes(tmp_path, capsys, words, says):
    assert main(["finetune", *ask(tmp_path), "--here", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("writes", [0, 3])
def test_a_disk_that_is_full(tmp_path, capsys, monkeypatch, writes):
    """From so many files of the run on."""
    write, left = RunFolder.write, iter(range(writes))

    def until_full(run, name, data):
        if next(left, None) is None and name != ".writable":  # there was room when it was asked
            raise OSError(errno.ENOSPC, "No space left on device")
        write(run, name, data)

    monkeypatch.setattr(RunFolder, "write", until_full)
    assert main(["finetune", *ask(tmp_path, "schedule.length=1it"), "--here", *SCRATCH]) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said.splitlines()[-1] and "Traceback" not in said


def test_pictures_of_several_labels(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(COLLECTIONS, "voc2007", small("voc2007", tmp_path))
    uri = f"collection:voc2007:{tmp_path}"
    for val in (uri, "null"):
        words = ask(tmp_path, f"data.train={uri}", f"data.val={val}")
        assert main(["finetune", *words, "--from", "scratch", "--here"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "several labels, on which mimray does not fine-tune; take `evaluate linear`" in line


def test_the_verb_prints_one_object(tmp_path, capsys):
    words = ["finetune", *ask(tmp_path, "schedule.length=3it"), "--here", *SCRATCH]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["top1_best"] == found["top1"] and found["weights"] is None and found["classes"] == 10
    )
    assert main(words) == 0
    assert "is finished" in capsys.readouterr().out


def test_the_metric_of_sets_that_are_judged_by_the_mean_of_their_classes(capsys):
    final = {"val/top1": 0.5, "val/mean_per_class": 0.25, "val/mean_per_class_best": 0.375}
    record = {"name": "run", "steps": 1, "classes": 2, "weights": None, "checkpoint": None}
    record |= {"photos": {"val": 20}, "final": final}
    found = summary("runs/run", record)
    assert (found["mean_per_class"], found["mean_per_class_best"]) == (0.25, 0.375)
    assert found["mean_per_class_average"] is None
    recipe = load_finetune_recipe("finetune_demo", ["run.tracking=off"])
    _print_table(recipe, found, record, already=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "mean per class" in line]
    assert "25.00%, best 37.50%" in line
    _print_table(recipe, summary("runs/run", record | {"final": {}}), record, already=False)
    assert "mean per class" not in capsys.readouterr().out  # of an older run


def test_speed_is_made_to_fit_this_process(tmp_path):
    record, _ = finetune(tmp_path, "schedule.length=1it", "speed.workers=2", "speed.loader=ray")
    assert record["status"] == "finished" and record["starts"][0]["workers"] == 1


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


def test_a_batch_larger_than_the_labels_that_are_left(tmp_path, capsys):
    assert main(["finetune", *ask(tmp_path, "data.labels=1%"), "--here", *SCRATCH]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "10 photos to train on (870 of the 880 are left out by data.labels=1%)" in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["finetune", "demo", "--from", "scratch"], "demo is a recipe for pre-training"),
        (["pretrain", "finetune_demo", "mask.unit=8"], "finetune_demo is a recipe for fine-tuning"),
        (["finetune", "finetune_dmeo", *SCRATCH], "did you mean finetune_demo"),
    ],
)
def test_a_recipe_of_the_other_kind_or_of_none(capsys, words, says):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
