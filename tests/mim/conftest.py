"""Tiny models, and the official ones with random weights from ../shared/goldens."""

import json
import re

import numpy as np
import pytest
import torch

from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder
from mimray.mim.encoders.vit import ViTEncoder
from mimray.mim.build import assemble as join
from mimray.mim.targets import build_target
from mimray.recipe import TargetSettings

torch.set_num_threads(1)  # the tensors are small

FAMILIES = {"swin": SwinEncoder, "swinv2": SwinV2Encoder, "vit": ViTEncoder}


def assemble(encoder, target="pixels", window=47, size=96):
    settings = TargetSettings(kind=target, window=window)
    side = size // encoder.stride
    return join(encoder, build_target(settings, size), (side, side))


@pytest.fixture
def tiny():
    """A Swin of 32 px, two stages: `tiny(drop_path, target)`."""

    def build(drop_path=0.0, target="pixels", window=5):
        torch.manual_seed(0)
        encoder = SwinEncoder(
            image_size=32, window=2, drop_path=drop_path, embed=8, depths=(1, 1), heads=(1, 2)
        )
        return assemble(encoder, target, window, size=32)

    return build


def ours(name):
    """timm's name of an official parameter: it merges patches at the start of a stage."""
    name = name.removeprefix("param/").replace("decoder.", "head.")
    return re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)


@pytest.fixture
def official(shared):
    """`official(family, target) -> (model, arrays)`: the official weights, inputs and results."""

    def load(family, target="pixels"):
        config = json.loads((shared / f"goldens/simmim_{family}.json").read_text())["config"]
        arrays = np.load(shared / f"goldens/simmim_{family}.npz", allow_pickle=False)
        sizes = {"image_size": config["img"], "patch": config["patch"], "embed": config["embed"]}
        depth = {"depth": config["depth"]} if family == "vit" else {"depths": config["depths"]}
        encoder = FAMILIES[family](
            window=config.get("window"), drop_path=0.0, heads=config["heads"], **depth, **sizes
        )
        model = assemble(encoder, target).eval()
        weights = {ours(k): torch.tensor(arrays[k]) for k in arrays if k.startswith("param/")}
        token = model.encoder.mask_token
        weights["encoder.mask_token"] = weights["encoder.mask_token"].view_as(token)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected and not set(missing) & set(dict(model.named_parameters()))
        return model, arrays

    return load
