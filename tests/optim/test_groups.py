import re

import pytest
import torch
from torch import nn

from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.optim import (
    build_optimizer,
    decays,
    layer_scales,
    official_decays,
    parameter_count,
    parameter_groups,
    set_learning_rate,
)
from mimray.recipe import Optim

pytestmark = pytest.mark.unit

NEVER = ("mask_token", "cls_token", "relative_position_bias_table", "cpb_mlp", "logit_scale")


def on_meta(name):
    with torch.device("meta"):
        return nn.ModuleDict({"encoder": build_encoder(name, 224)})


class Named(nn.Module):
    """Parameters on no device under any names: `{"encoder.norm.weight": shape}`."""

    def __init__(self, shapes):
        super().__init__()
        on_no_device = {n: torch.empty(shape, device="meta") for n, shape in shapes.items()}
        self.named = {n: nn.Parameter(tensor) for n, tensor in on_no_device.items()}

    def named_parameters(self, *_):
        return self.named.items()


def settings_of(groups, model):
    """{name: (weight decay, scale)} for the parameters that the groups hold, in their order."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in groups
        for p in group["params"]
    }


# ----- what decays --------------------------------------------------------------------------------


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


def test_where_there_is_no_official_code_it_is_said():
    with pytest.raises(ValueError, match=r"no resnet, only swin, swinv2, vit; leave it out"):
        official_decays("resnet")


# ----- groups and the optimiser -------------------------------------------------------------------


def test_groups_hold_every_trained_parameter_once():
    model = build_encoder("vit_nano", 96)
    model.cls_token.requires_grad_(False)
    decayed, spared = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert decayed["lr_scale"] == spared["lr_scale"] == 1.0
    ids = [id(p) for p in [*decayed["params"], *spared["params"]]]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize(("like_official", "decay"), [(False, 0.0), (True, 0.1)])
def test_the_optimizer_has_the_recipe_s_numbers(like_official, decay):
    model = nn.ModuleDict({"encoder": build_encoder("swin_nano", 96), "head": nn.Linear(2, 2)})
    numbers = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    optimizer = build_optimizer(model, Optim(**numbers, like_official=like_official))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"], group["eps"]) == (0.01, (0.8, 0.9), 1e-6)
    settings = settings_of(optimizer.param_groups, model)
    assert settings["encoder.layers.0.blocks.0.attn.relative_position_bias_table"][0] == decay
    assert settings["head.weight"][0] == 0.1 and settings["encoder.mask_token"][0] == 0.0


def test_the_rate_of_a_group_is_scaled_once_and_as_asked():
    model = nn.ModuleDict({"encoder": build_encoder("swin_nano", 96), "head": nn.Linear(2, 2)})
    optimizer = build_optimizer(model, Optim(), layer_scales(model["encoder"], 0.5))
    scales = {group["lr_scale"] for group in optimizer.param_groups}
    assert scales == {0.5**n for n in range(1 + sum(ENCODERS["swin_nano"].sizes["depths"]) + 1)}
    for _ in range(2):
        set_learning_rate(optimizer, 0.3)
        assert all(g["lr"] == 0.3 * g["lr_scale"] for g in optimizer.param_groups)
    set_learning_rate(optimizer, lambda scale: 0.01 + scale)
    assert all(g["lr"] == 0.01 + g["lr_scale"] for g in optimizer.param_groups)


def test_a_plain_optimizer_s_groups_have_the_whole_rate():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    set_learning_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_parameter_count_counts_numbers():
    assert parameter_count(nn.Linear(3, 4).parameters()) == 16
