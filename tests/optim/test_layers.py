import pytest
import torch
from torch import nn

from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.optim import layer_id, layer_names, layer_scales

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("family", "depths", "apart", "count"),
    [
        ("swin", (2, 2, 18, 2), False, 26),
        ("swinv2", (2, 2, 18, 2), True, 29),
        ("vit", (3, 3, 3, 3), False, 14),
        ("vit", (12,), True, 14),
        ("resnet", (3, 4, 6, 3), False, 18),
        ("convnext", (3, 3, 9, 3), False, 20),
        ("convnext", (3, 3, 9, 3), True, 23),
        ("replknet", (2, 2, 18, 2), False, 26),
    ],
)
def test_how_many_layers_there_are(family, depths, apart, count):
    assert len(layer_names(family, depths, apart)) + 1 == count


PLACES = {  # of depths (2, 1, 2): five blocks
    "swin": {
        "encoder.mask_token": 0,
        "encoder.absolute_pos_embed": 0,
        "encoder.patch_embed.norm.weight": 0,
        "encoder.layers.0.blocks.1.norm1.bias": 2,
        "encoder.layers.1.downsample.norm.weight": 2,
        "encoder.layers.2.downsample.reduction.weight": 3,
        "encoder.layers.2.blocks.1.mlp.fc1.weight": 5,
        "encoder.norm.weight": 6,
    },
    "vit": {
        "encoder.cls_token": 0,
        "encoder.pos_embed": 0,
        "encoder.blocks.0.gamma_1": 1,
        "encoder.blocks.4.attn.qkv.weight": 5,
        "encoder.rel_pos_bias.relative_position_bias_table": 6,
        "encoder.norm.bias": 6,
        "head.blocks.0.norm1.weight": 6,
    },
    "resnet": {
        "encoder.conv1.weight": 0,
        "encoder.bn1.bias": 0,
        "encoder.layer1.0.conv1.weight": 1,
        "encoder.layer2.0.downsample.0.weight": 3,
        "encoder.layer3.1.bn3.weight": 5,
    },
    "convnext": {
        "encoder.stem.0.weight": 0,
        "encoder.stages.1.downsample.0.weight": 2,
        "encoder.stages.1.blocks.0.gamma": 3,
        "encoder.stages.2.blocks.1.conv_dw.weight": 5,
        "head.stem.0.weight": 6,
        "stem.0.weight": 6,  # not the encoder's
    },
    "replknet": {
        "encoder.stem.0.conv.weight": 0,
        "encoder.stages.0.blocks.1.preffn_bn.weight": 1,  # a block is two modules
        "encoder.stages.0.blocks.2.prelkb_bn.weight": 2,
        "encoder.transitions.0.0.conv.weight": 2,
        "encoder.transitions.1.1.bn.weight": 3,
        "encoder.stages.2.blocks.3.pw1.conv.weight": 5,
        "encoder.norm.weight": 6,
    },
}


@pytest.mark.parametrize("family", PLACES)
def test_where_a_parameter_stands(family):
    layers = layer_names(family, (2, 1, 2))
    assert {name: layer_id(name, layers) for name in PLACES[family]} == PLACES[family]


def test_the_tenth_block_is_not_the_first():
    layers = layer_names("vit", (12,))
    assert layer_id("encoder.blocks.11.norm1.weight", layers) == 12
    assert layer_id("encoder.blocks.1.norm1.weight", layers) == 2


ONE_OF_A_FAMILY = {spec.family: name for name, spec in reversed(ENCODERS.items())}


@pytest.mark.parametrize("family", ONE_OF_A_FAMILY)
def test_no_layer_of_an_encoder_is_empty_and_no_block_is_in_the_last(family):
    """So a parameter that is called otherwise than its family's rule expects is found."""
    with torch.device("meta"):
        encoder = build_encoder(ONE_OF_A_FAMILY[family], 224)
        model = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(2, 2)})
    for apart in (False, True):
        layers = layer_names(encoder.family, encoder.depths, apart)
        places = {name: layer_id(name, layers) for name, _ in model.named_parameters()}
        assert set(places.values()) == set(range(len(layers) + 1))
        last = {name for name, place in places.items() if place == len(layers)}
        assert not any("block" in n or "layer" in n or "stages" in n for n in last), last


def test_the_scale_falls_by_the_decay_from_layer_to_layer():
    encoder = build_encoder("swin_nano", 96)
    scale = layer_scales(encoder, 0.5)
    assert scale("head.weight") == scale("encoder.norm.weight") == 1.0
    assert scale("encoder.layers.2.blocks.3.norm1.weight") == 0.5
    assert scale("encoder.layers.2.blocks.2.norm1.weight") == 0.25
    assert scale("encoder.mask_token") == 0.5 ** (1 + sum(encoder.depths))
    assert layer_scales(encoder, 1.0)("encoder.mask_token") == 1.0


def test_an_unknown_family_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"layers of 'maxvit' are not known; known: swin, swinv2"):
        layer_names("maxvit", (1,))
