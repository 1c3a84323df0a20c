import json
import re

import pytest
import torch
from torch import nn

from mimray.durations import Clock
from mimray.mim.encoders import build_encoder
from mimray.optim import (
    build_optimizer,
    decays,
    learning_rate,
    parameter_count,
    parameter_groups,
    set_learning_rate,
)
from mimray.recipe import Optim, Schedule

pytestmark = pytest.mark.unit

NEVER = ("mask_token", "cls_token", "relative_position_bias_table", "cpb_mlp", "logit_scale")


def on_meta(name):
    with torch.device("meta"):
        return nn.ModuleDict(
            {"encoder": build_encoder(name, 224 if "vit" in name else 192, None, 0.0)}
        )


@pytest.mark.parametrize("name", ["swin_base", "swinv2_base", "vit_base", "vit_nano"])
def test_matrices_decay_and_nothing_else(name):
    for parameter_name, parameter in on_meta(name).named_parameters():
        spared = any(part in parameter_name for part in NEVER)
        matrix = re.search(r"(qkv|proj|fc1|fc2|reduction)\.weight$", parameter_name)
        assert decays(parameter_name, parameter) == bool(matrix and not spared), parameter_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("swin_nano", ("mask_token", "relative_position_bias_table", "norm")),
        (
            "swinv2_nano",
            ("mask_token", "cpb_mlp.0.weight", "cpb_mlp.2.weight", "logit_scale", "q_bias"),
        ),
        (
            "vit_nano",
            ("mask_token", "cls_token", "relative_position_bias_table", "gamma_1", "v_bias"),
        ),
    ],
)
def test_tokens_tables_biases_norms_and_scales_are_there_and_spared(name, parts):
    parameters = dict(on_meta(name).named_parameters())
    for part in parts:
        found = [n for n in parameters if part in n]
        assert found, part
        assert not any(decays(n, parameters[n]) for n in found)


@pytest.mark.parametrize("name", ["swin_base", "swinv2_base", "vit_base"])
def test_decay_is_the_official_one_but_for_its_known_faults(shared, name):
    content = json.loads((shared / "goldens/param_groups.json").read_text())["content"]
    official = content[name]["pretrain"]
    faults = {*official["decayed_although_listed_as_no_decay"], *official["decayed_and_not_listed"]}
    ours = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", n): p
        for n, p in on_meta(name).named_parameters()
    }
    theirs = {n: p for n, p in official["parameters"].items() if n.startswith("encoder.")}
    assert set(ours) == set(theirs)
    for n, settings in theirs.items():
        assert decays(n, ours[n]) == (settings["weight_decay"] > 0 and n not in faults), n


def test_groups_hold_every_trained_parameter_once():
    model = build_encoder("vit_nano", 96, None, 0.0)
    model.cls_token.requires_grad_(False)
    decayed, spared = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    ids = [id(p) for p in [*decayed["params"], *spared["params"]]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}


def test_the_optimizer_has_the_recipe_s_numbers():
    settings = Optim(lr=0.01, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    optimizer = build_optimizer(nn.Linear(2, 2), settings)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.8, 0.9), 1e-6)
    set_learning_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.5]


def test_parameter_count_counts_numbers():
    assert parameter_count(nn.Linear(3, 4).parameters()) == 16


# ----- learning rate ------------------------------------------------------------------------------

CLOCK = Clock(steps_per_epoch=10, batch=1, total=1000)
COSINE = Schedule(length="100ep", warmup="10ep", warmup_lr=0.1, min_lr=0.2)


def test_warm_up_starts_at_its_rate_and_ends_at_the_peak_without_a_drop():
    assert learning_rate(0, 2.0, COSINE, CLOCK) == 0.1
    assert learning_rate(50, 2.0, COSINE, CLOCK) == pytest.approx((0.1 + 2.0) / 2)
    assert learning_rate(100, 2.0, COSINE, CLOCK) == 2.0
    before, after = (learning_rate(s, 2.0, COSINE, CLOCK) for s in (99, 101))
    assert 2.0 - before == pytest.approx(1.9 / 100) and 2.0 - after < 1e-4


def test_the_cosine_ends_at_its_minimum():
    assert learning_rate(550, 2.0, COSINE, CLOCK) == pytest.approx(1.1)  # half way
    assert learning_rate(1000, 2.0, COSINE, CLOCK) == pytest.approx(0.2)
    assert learning_rate(999, 2.0, COSINE, CLOCK) == pytest.approx(0.2, abs=1e-4)


def test_the_rate_falls_after_the_warm_up():
    rates = [learning_rate(s, 2.0, COSINE, CLOCK) for s in range(1000)]
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_multistep_multiplies_at_every_milestone():
    schedule = Schedule(
        kind="multistep", warmup="1ep", milestones=("50%", "700it", "90ep"), gamma=0.1
    )
    for step, rate in [(10, 1), (499, 1), (500, 0.1), (700, 0.01), (899, 0.01), (900, 0.001)]:
        assert learning_rate(step, 1.0, schedule, CLOCK) == pytest.approx(rate), step


@pytest.mark.parametrize("kind", ["cosine", "multistep"])
def test_a_warm_up_longer_than_the_run_is_finite(kind):
    schedule = Schedule(kind=kind, warmup="200ep")
    rates = [learning_rate(s, 1.0, schedule, CLOCK) for s in range(1000)]
    assert rates == sorted(rates) and rates[0] == 0.0 and rates[-1] < 1.0


@pytest.mark.parametrize(
    ("case", "kind"), [("swin/cosine_prefixTrue", "cosine"), ("simmim/multistep", "multistep")]
)
def test_rates_are_those_of_the_official_schedulers(shared, case, kind):
    content = json.loads((shared / "goldens/schedules.json").read_text())["content"]
    given = content["_inputs"]
    schedule = Schedule(
        kind=kind,
        warmup=f"{given['warmup']}ep",
        warmup_lr=given["warmup_lr"],
        min_lr=given["min_lr"],
        milestones=tuple(f"{m}ep" for m in given["milestones"]),
        gamma=given["gamma"],
    )
    clock = Clock(given["iters"], 1, given["epochs"] * given["iters"])
    rates = content[case]["lr_at_num_updates"]
    got = [learning_rate(step, given["base_lr"], schedule, clock) for step in range(len(rates))]
    assert got == pytest.approx(rates, rel=1e-10)
