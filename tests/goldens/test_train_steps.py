"""The official pre-training loop for a few updates, through mimray's own step."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

from mimray.durations import Clock
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer, learning_rate, set_learning_rate
from mimray.recipe import Optim, Schedule
from tests.goldens.golden import Golden, stems
from tests.goldens.models import official_names, pretraining_model

pytestmark = pytest.mark.unit

STEM = "train_steps"
CASES = [n for stem in stems(STEM) for n in Golden(stem).info["config"]["accum"]]


@pytest.mark.parametrize("accumulated", CASES)
def test_updates(goldens, accumulated):
    golden = goldens(STEM)
    config = golden.info["config"]
    model = pretraining_model(goldens(Path(config["model"]).stem))
    got, seen = train(model, config, golden.tensor("x"), golden.tensor("mask").bool(), accumulated)
    case = f"accum{accumulated}/"
    assert {case + key for key in got} == golden.computed(f"{case}*")
    for key, value in got.items():
        if key in ("loss", "grad_norm"):  # micro-batches that made no update were not run
            golden.check(case + key, value, seen)
        elif not key.endswith("attn.qkv.bias"):  # the keys' third is made of rounding
            golden.check(case + key, value)


def train(model, config, images, hidden, accumulated):
    """Results by key, and the numbers of the micro-batches that were used."""
    optim = Optim(
        lr=config["base_lr"], weight_decay=config["wd"], clip=config["clip"], like_official=True
    )
    schedule = Schedule(
        warmup=f"{config['warmup']}ep", warmup_lr=config["warmup_lr"], min_lr=config["min_lr"]
    )
    # it counts micro-batches, as the official loop does
    clock = Clock(config["iters"], config["batch"], config["iters"] * config["epochs"])
    model.train()
    optimizer = build_optimizer(model, optim)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses, rates, seen = [], [], []
    hook = model.register_forward_hook(lambda m, given, out: losses.append(out.loss.item()))
    with recorded_norms() as norms:
        for numbers in updates(config, accumulated):
            behind = seen[-1] + 1 if seen else 0
            rates.append(learning_rate(behind, optim.lr, schedule, clock, optim.like_official))
            set_learning_rate(optimizer, rates[-1])
            batch = [micro_batch(images, hidden, number % config["iters"]) for number in numbers]
            train_step(
                model, optimizer, batch, optim.clip, bf16=False, clip_partial=optim.like_official
            )
            seen += numbers
    hook.remove()
    got = {"loss": losses, "grad_norm": norms, "lr_of_update": rates}
    names = official_names(model)
    for name, parameter in model.named_parameters():
        end = parameter.detach().double()
        got[f"final_norm/{names[name]}"] = end.norm()
        got[f"moved/{names[name]}"] = (end - start[name].double()).norm()
    return got, seen


def updates(config, accumulated):
    """Numbers of the micro-batches of every update, through the run; an epoch's last ones that make
    no whole update are left out."""
    size, iters = max(1, accumulated), config["iters"]
    for epoch in range(config["epochs"]):
        for first in range(0, iters - size + 1, size):
            yield [epoch * iters + first + n for n in range(size)]


def micro_batch(images, hidden, number):
    count = images.shape[1]
    return MicroBatch(images[number], hidden[number], torch.arange(count), torch.ones(count))


@contextmanager
def recorded_norms():
    """Every gradient norm that is clipped."""
    found, clip_grad_norm_ = [], nn.utils.clip_grad_norm_

    def noting(parameters, clip):
        found.append(clip_grad_norm_(parameters, clip))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", noting)
        yield found
