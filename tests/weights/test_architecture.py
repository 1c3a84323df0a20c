import pytest
import torch

from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.weights import describe
from tests.weights.conftest import swin, vit

pytestmark = pytest.mark.unit


def described(encoder):
    return describe({f"encoder.{n}": t for n, t in encoder.state_dict().items()})


NAMES = ["swin_nano", "swin_small", "swin_base", "swinv2_nano", "swinv2_base"]
NAMES += ["vit_nano", "vit_base", "vit_standard_base", "resnet_nano", "resnet50", "resnet50x4"]
NAMES += ["convnext_nano", "convnext_small", "replknet_nano", "replknet31_base"]


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_is_told_by_its_weights(name):
    spec = ENCODERS[name]
    with torch.device("meta"):
        found = described(build_encoder(name, 4 * spec.stride))
    assert found.family == spec.family and name in found.encoders()
    assert found.embed == spec.sizes["embed"]
    twins = [n for n in found.encoders() if n.removesuffix("_plain") != name.removesuffix("_plain")]
    assert not twins


@pytest.mark.parametrize("name", ["vit_nano", "vit_base"])
def test_the_fine_tuned_vit_is_the_same_encoder(name):
    with torch.device("meta"):
        found = described(build_encoder(name, 64, finetune=True))
    assert found.position == "per_block" and found.encoders() == [name]


def test_another_patch_is_another_encoder():
    sizes = ENCODERS["swin_nano"].sizes
    assert described(swin(size=96, window=6, **sizes)).encoders() == ["swin_nano"]
    assert described(swin(size=96, window=6, patch=2, **sizes)).encoders() == []


def test_as_text():
    assert str(described(swin(window=4))) == (
        "swin: embed 8, depths 1,2, heads 1,2, patch 4, windows 4,4"
    )
    assert str(described(vit(position="absolute"))) == (
        "vit: embed 8, depths 2, patch 8, position absolute"
    )
    assert str(described(build_encoder("swin_nano", 96))) == (
        "swin: embed 32, depths 1,1,4, heads 2,4,8, patch 4, windows 6,6,6 (swin_nano)"
    )


def test_what_is_of_no_known_family():
    assert describe({"encoder.features.0.weight": torch.zeros(1)}) is None
    assert describe({"head.0.weight": torch.zeros(1)}) is None
