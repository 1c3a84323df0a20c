"""What a fine-tuning's step sees: pictures, their labels, what is done to them, and learning rates."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mimray.data.load import load_block
from mimray.data.subset import choose
from mimray.data.torch_loader import micro_batches
from mimray.hashing import key
from mimray.train import loop
from mimray.train.batches import Batches
from mimray.train.group import Trainer
from mimray.train.held_out import HeldOut
from mimray.train.mailbox import LocalPost
from tests.train.finetuning import finetune, job_of

pytestmark = pytest.mark.unit

torch.set_num_threads(1)
CPU = torch.device("cpu")
PLAIN = ["augment.randaugment=null", "augment.mixup=0", "augment.cutmix=0", "augment.erasing=0"]


def batches_of(job, rank=0):
    """One rank's micro-batches by position, decoded here."""
    plan = job.plan(0)
    stream = micro_batches(plan, rank, job.train_source, job.task.framing(True), 0, 0, False)
    return Batches(stream, plan, rank, CPU)


# ----- labels -------------------------------------------------------------------------------------------


def write_colours(folder, each, damaged=0):
    """Class 0 is red and class 1 blue; of each, some cannot be read."""
    for number, (name, colour) in enumerate([("a", (255, 0, 0)), ("b", (0, 0, 255))]):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            file = folder / name / f"{k}.png"
            Image.new("RGB", (32, 32), colour).save(file)
            if k % each < damaged + number:
                file.write_bytes(file.read_bytes()[:40])


def test_a_spare_brings_its_own_label(tmp_path):
    write_colours(tmp_path / "train", 20, damaged=7)
    write_colours(tmp_path / "val", 8, damaged=2)
    data = [f"data.train={tmp_path}/train", f"data.val={tmp_path}/val", "data.max_damaged=0.5"]
    job = job_of(tmp_path, *data, *PLAIN, "optim.batch=8", "augment.smoothing=0")
    task, other_class = job.task, 0
    for position, (received,) in batches_of(job):
        micro = task.micro_batch(received, job.plan(0).epoch(position))
        blue = (received.images[:, 2] > received.images[:, 0]).flatten(1).any(dim=1).long()
        counts = received.weight > 0
        assert torch.equal(micro.supervision.argmax(dim=1)[counts], blue[counts])
        labels = torch.from_numpy(task.train_labels)
        other_class += int((labels[received.rows] != labels[received.seen])[counts].sum())
    assert other_class  # of some rows the spare is of the other class
    job.post = LocalPost(lambda messages: None, 0, threading.Event())
    held_out = list(HeldOut(job, Trainer(0, 1, CPU, False)))
    assert (
        sum(received.weight.sum() for received in held_out) == 16 - 5
    )  # no spares: they are left out
    for received in held_out:
        blue = received.images[:, 2].flatten(1).any(dim=1).long()
        counts = received.weight > 0
        assert torch.equal(task.labels(received, task.val_labels)[counts].long(), blue[counts])


# ----- pictures -----------------------------------------------------------------------------------------


def as_torchvision(data, size):
    """SimMIM `data/data_finetune.py`: the shorter side to 256 / 224 of the size by bicubic, the centre."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    side = int(256 / 224 * size)
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((side * width // short, side * height // short), Image.BICUBIC)
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)), dtype=np.int64)


def test_pictures_are_judged_by_their_centre_with_a_margin(tmp_path):
    job = job_of(tmp_path, "model.image_size=64")
    block = job.val_plan.block_of_all(0)[0]
    found = load_block(job.val_source, block, job.task.framing(training=False))
    for image, row, data in zip(
        found["image"][:8], block.rows[:8], job.val_source.read(block.rows[:8]), strict=True
    ):
        expected = as_torchvision(data, 64)
        assert row >= 0 and np.abs(image - expected).mean() < 1.0


# ----- the step's batches and learning rates ------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch):
    """Runs a fine-tuning; returns its record and what every step was given: micro-batches, and learning
    rates by parameter."""
    steps = []
    train_step = loop.train_step

    def watching(model, optimizer, batch, *more):
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        named = {n: rates[p] for n, p in model.named_parameters() if p in rates}
        steps.append(SimpleNamespace(batch=batch, rates=named))
        return train_step(model, optimizer, batch, *more)

    def run(folder, *words):
        steps.clear()
        record, rows = finetune(folder, *words)
        return record, rows, list(steps)

    monkeypatch.setattr(loop, "train_step", watching)
    return run


def test_layers_learn_at_their_own_rates_in_a_run(tmp_path, watched):
    _, rows, steps = watched(tmp_path, "optim.layer_decay=0.5", "schedule.length=2it", *PLAIN)
    for row, step in zip(rows, steps, strict=True):
        whole, rates = row["train/lr"], step.rates
        assert whole > 0 and rates["classifier.weight"] == rates["fc_norm.weight"] == whole
        for block in range(8):
            assert rates[f"encoder.blocks.{block}.mlp.fc1.weight"] == whole * 0.5 ** (8 - block)
        assert rates["encoder.patch_embed.proj.weight"] == whole * 0.5**9


def test_a_rectangle_of_every_picture_is_erased_in_a_run(tmp_path, watched):
    words = [*PLAIN, "schedule.length=1it"]
    (plain,) = watched(tmp_path / "plain", *words)[2]
    (erased,) = watched(tmp_path / "erased", *words, "augment.erasing=1.0")[2]
    (before,), (after,) = plain.batch, erased.batch
    assert torch.equal(before.seeds, after.seeds) and torch.equal(
        before.supervision, after.supervision
    )
    for changed in (before.images != after.images).any(dim=1):
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert 0.02 * 0.5 < changed.float().mean() < 0.4
        assert torch.equal(changed, rows[:, None] & columns[None, :])


def test_few_labels_are_a_share_of_every_class_and_no_other_rows_are_seen(tmp_path, watched):
    words = [*PLAIN, "data.labels=10%", "schedule.length=5it"]
    record, _, steps = watched(tmp_path, *words)
    job = job_of(tmp_path, *words)
    chosen = choose(job.train_source, 0.1, stratified=True).rows()
    labels = job.train_source.labels()
    counts = [max(1, round(0.1 * int((labels == c).sum()))) for c in range(10)]
    assert np.bincount(labels[chosen]).tolist() == counts
    assert record["photos"]["train"] == sum(counts)
    seen = torch.cat([micro.seeds for step in steps for micro in step.batch])
    assert len(seen) == 80 and set(seen.tolist()) <= set(
        key(0, torch.from_numpy(chosen), 0).tolist()
    )
    classes = torch.cat([m.supervision.argmax(dim=1) for step in steps for m in step.batch])
    assert set(classes.tolist()) == set(range(10))


# ----- several trainers ---------------------------------------------------------------------------------


def mixed(job, workers, micro):
    """The first batch as `workers` ranks see it: pictures and targets by their seeds, and the loss."""
    speed = job.recipe.speed.model_copy(update={"micro_batch": micro})
    job.task.recipe = job.recipe.model_copy(update={"speed": speed})
    job.workers = workers
    torch.manual_seed(0)
    model = job.task.build(fresh=True).eval()
    model.classifier.weight.data.normal_()  # a fresh one gives every class the same chance
    found, error, values = {}, 0.0, 0.0
    for rank in range(workers):
        _, parts = next(iter(batches_of(job, rank)))
        for micro_batch in (job.task.micro_batch(received, epoch=0) for received in parts):
            out = model(micro_batch.images, micro_batch.supervision, micro_batch.seeds)
            error += float((out.error.detach() * micro_batch.weight).sum())
            values += float((model.values(micro_batch.supervision) * micro_batch.weight).sum())
            for seed, image, target, weight in zip(
                micro_batch.seeds.tolist(), micro_batch.images, micro_batch.supervision,
                micro_batch.weight, strict=True,
            ):  # fmt: skip
                if weight:
                    found[seed] = image, target
    return found, error / values


@pytest.mark.parametrize("batch", [16, 15])
def test_two_trainers_mix_and_lose_what_one_does(tmp_path, batch):
    words = ["augment.mixup=0.8", "augment.cutmix=1.0", "augment.erasing=0.25"]
    job = job_of(tmp_path, *words, f"optim.batch={batch}", "optim.lr=1e-3")
    whole, loss = mixed(job, workers=1, micro=16)
    soft = sum(int((target > 0.1).sum() > 1) for _, target in whole.values())
    assert len(whole) == batch and soft > batch / 4
    for workers, micro in ((2, 8), (2, 4), (3, 5)):
        parts, other = mixed(job, workers, micro)
        assert parts.keys() == whole.keys()
        for seed, (image, target) in parts.items():
            torch.testing.assert_close(image, whole[seed][0], rtol=0, atol=1e-6)
            torch.testing.assert_close(target, whole[seed][1], rtol=0, atol=1e-6)
        assert other == pytest.approx(loss, rel=1e-5)
