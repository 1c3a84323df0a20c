"""The official parameter groups: weight decay, and the learning rate's scale of every layer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mimray.optim import decays, layer_id, layer_names, layer_scales, official_decays
from mimray.optim import parameter_groups as build_groups
from mimray.weights import FORMATS, describe
from tests.goldens.golden import Golden, excess, stems
from tests.goldens.models import build_encoder

pytestmark = pytest.mark.unit

STEM = "param_groups"
CONTENT = {} if not stems(STEM) else Golden(STEM).info["content"]
STAGES = [(model, stage) for model, stages in CONTENT.items() for stage in stages]
# The depth task's model is built elsewhere; its layers count patch merging apart.
OWN = [(model, stage) for model, stage in STAGES if "backbone" not in CONTENT[model][stage]]


@pytest.fixture
def strict(goldens):
    return next(t["strict"] for t in goldens(STEM).tolerances if t["keys"] == "lr_scale")


class Official:
    """What the official optimiser was given, under mimray's names."""

    def __init__(self, model, stage):
        self.info, self.finetune = CONTENT[model][stage], stage == "finetune"
        given = self.info["parameters"]
        shapes = {n: torch.empty(p.get("shape", [1]), device="meta") for n, p in given.items()}
        weights, dropped = FORMATS["official"].read(shapes)
        assert not dropped and len(weights) == len(given)
        self.names = dict(zip(given, weights, strict=True))
        self.parameters = {self.names[n]: p for n, p in given.items()}
        self.weights = weights
        self.architecture = describe(weights)
        self.apart = "backbone" in self.info
        self.encoder = SimpleNamespace(
            family=self.architecture.family, depths=self.architecture.depths
        )


class Named(nn.Module):
    """A model that has parameters of these names."""

    def __init__(self, tensors):
        super().__init__()
        self.tensors = {name: nn.Parameter(tensor) for name, tensor in tensors.items()}

    def named_parameters(self, *_):
        return self.tensors.items()


def settings(official, rule):
    """Weight decay and scale by name, as the optimiser would be given them."""
    model = Named(official.weights)
    scale = layer_scales(official.encoder, official.info["layer_decay"] or 1.0, official.apart)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in build_groups(model, official.info["weight_decay"], rule, scale):
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["weight_decay"], group["lr_scale"])
    return found


@pytest.mark.parametrize(("model", "stage"), OWN)
@pytest.mark.parametrize("like_official", [True, False])
def test_groups_and_without_the_official_faults(model, stage, like_official, strict):
    official = Official(model, stage)
    rule = decays
    if like_official:
        rule = official_decays(official.encoder.family, official.finetune)
    faults = {
        official.names[name]
        for kind in ("decayed_although_listed_as_no_decay", "decayed_and_not_listed")
        for name in official.info[kind]
    }
    got = settings(official, rule)
    assert got.keys() == official.parameters.keys()
    for name, expected in official.parameters.items():
        decay, scale = got[name]
        spared = name in faults and not like_official
        assert decay == (0.0 if spared else expected["weight_decay"]), name
        difference = np.abs(scale - expected["lr_scale"])
        assert excess(difference, strict * expected["lr_scale"]) <= 1, name


@pytest.mark.parametrize(("model", "stage"), [s for s in STAGES if s[1] == "finetune"])
def test_layers(model, stage, strict):
    official = Official(model, stage)
    layers = layer_names(official.encoder.family, official.encoder.depths, official.apart)
    decay = official.info["layer_decay"]
    for name, expected in official.parameters.items():
        layer = layer_id(name, layers)
        assert layer == expected["layer_id"], name
        difference = np.abs(decay ** (len(layers) - layer) - expected["lr_scale"])
        assert excess(difference, strict * expected["lr_scale"]) <= 1, name


@pytest.mark.parametrize(("model", "stage"), OWN)
def test_the_encoders_have_the_official_parameters(model, stage):
    """So what is compared above is what is trained here."""
    official = Official(model, stage)
    found = official.architecture
    sizes = {"depth": found.depths[0], "heads": found.heads[0]}
    if found.family != "vit":
        sizes = {"depths": found.depths, "heads": found.heads, "window": 2}
    config = {"type": found.family, "embed": found.embed, "patch": found.patch, **sizes}
    options = {"position": found.position} if found.family == "vit" else {}
    if official.finetune and found.family == "vit":
        options["final_norm"] = False
    with torch.device("meta"):
        encoder = build_encoder(config, 16 * found.patch, **options)
    own = {f"encoder.{name}" for name, _ in encoder.named_parameters()}
    theirs = {name for name in official.parameters if name.startswith("encoder.")}
    assert theirs <= own and own - theirs <= {"encoder.mask_token"}
