"""The official pre-training loop, several updates long, through this package's own step."""

import fnmatch
import json

import numpy as np
import pytest
import torch
from torch import nn

from mimray.durations import Clock
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer, learning_rate, set_learning_rate
from mimray.recipe import Optim, Schedule
from tests.mim.conftest import ours

pytestmark = pytest.mark.unit


@pytest.fixture
def strict(goldens):
    """`strict(key)`: relative tolerance of an array of train_steps.npz."""
    rules = json.loads((goldens / "tolerances.json").read_text())["tolerances"]

    def tolerance(key):
        (rule,) = (
            r for r in rules if r["file"] == "train_steps.npz" and fnmatch.fnmatch(key, r["keys"])
        )
        assert rule["rule"] == "rel"
        return rule["strict"]

    return tolerance


def like_official(config):
    """Settings of the golden run, and its clock, which counts micro-batches as the official one."""
    optim = Optim(
        lr=config["base_lr"], weight_decay=config["wd"], clip=config["clip"], like_official=True
    )
    schedule = Schedule(
        warmup=f"{config['warmup']}ep", warmup_lr=config["warmup_lr"], min_lr=config["min_lr"]
    )
    clock = Clock(config["iters"], config["batch"], config["iters"] * config["epochs"])
    return optim, schedule, clock


def updates(config, accumulated):
    """The micro-batches of every update, numbered through the run; an epoch's last few are left."""
    size, iters = max(1, accumulated), config["iters"]
    for epoch in range(config["epochs"]):
        for first in range(0, iters - size + 1, size):
            yield [epoch * iters + first + n for n in range(size)]


@pytest.fixture
def norms(monkeypatch):
    """Every gradient norm that is clipped."""
    found, clip_grad_norm_ = [], nn.utils.clip_grad_norm_

    def noting(parameters, clip):
        found.append(clip_grad_norm_(parameters, clip))
        return found[-1]

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", noting)
    return found


@pytest.mark.parametrize("case", [0, 1])
def test_updates_are_those_of_the_official_loop(official, goldens, strict, norms, case):
    config = json.loads((goldens / "train_steps.json").read_text())["config"]
    arrays = np.load(goldens / "train_steps.npz", allow_pickle=False)
    accumulated = config["accum"][case]
    model, _ = official(config["model"].removeprefix("simmim_").removesuffix(".npz"))
    model.train()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    model.register_forward_hook(lambda module, given, out: losses.append(out.loss.item()))

    # ----- the loop -------------------------------------------------------------------------------
    optim, schedule, clock = like_official(config)
    optimizer = build_optimizer(model, optim)
    rates, seen, behind = [], [], 0
    for numbers in updates(config, accumulated):
        rates.append(learning_rate(behind, optim.lr, schedule, clock, optim.like_official))
        set_learning_rate(optimizer, rates[-1])
        batch = []
        for number in numbers:
            images = torch.tensor(arrays["x"][number % config["iters"]])
            hidden = torch.tensor(arrays["mask"][number % config["iters"]]).bool()
            count = len(images)
            batch.append(MicroBatch(images, hidden, torch.arange(count), torch.ones(count)))
        result = train_step(
            model, optimizer, batch, optim.clip, bf16=False, clip_partial=optim.like_official
        )
        seen += numbers
        behind = numbers[-1] + 1
        mean = np.mean(losses[-len(numbers) :])
        assert (result.error / result.values).item() == pytest.approx(mean, rel=1e-6)
        assert result.norm == norms[-1]

    # ----- compared -------------------------------------------------------------------------------
    def compare(kind, got, which=...):
        key = f"accum{accumulated}/{kind}"
        assert got == pytest.approx(arrays[key][which], rel=strict(key), abs=0), key

    compare("lr_of_update", rates)
    compare("loss", losses, seen)
    compare("grad_norm", [norm.item() for norm in norms], seen)
    trained = dict(model.named_parameters())
    ends = f"accum{accumulated}/final_norm/"
    names = [key.removeprefix(ends) for key in arrays if key.startswith(ends)]
    assert {ours(name) for name in names} == set(trained)
    for name in names:
        if (
            "attn.qkv.bias" in name
        ):  # the keys' has no gradient but rounding: Adam makes steps of it
            continue
        end = trained[ours(name)].detach()
        compare(f"final_norm/{name}", end.double().norm().item())
        compare(f"moved/{name}", (end - start[ours(name)]).double().norm().item())
