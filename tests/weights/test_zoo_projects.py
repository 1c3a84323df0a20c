"""DeiT, MAE, MoCo v3, DINO and BEiT: files with the names that they released, around timm's ViTs.

Sources of the names: facebookresearch/moco-v3 `main_lincls.py`, facebookresearch/dino `main_dino.py`,
microsoft/unilm `beit/modeling_pretrain.py`, `beit2/modeling_pretrain.py`, and the keys of MAE's files.
"""

from argparse import Namespace

import pytest
import torch
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer

from mimray.mim.encoders.resnet import ResNetEncoder
from mimray.weights import FORMATS, load, read, recognise
from tests.weights.conftest import vit
from tests.weights.test_zoo_timm import STANDARD, VIT, near_one, without_class_token

pytestmark = pytest.mark.unit

WIDTH = VIT["embed_dim"]


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def plain():
    """A plain ViT without a classifier."""
    return near_one(VisionTransformer(**VIT, num_classes=0))


@pytest.fixture
def check(tmp_path, images):
    """The checkpoint, saved and loaded, gives the features that timm's model has."""

    def run(checkpoint, theirs, form, encoder=None):
        torch.save(checkpoint, tmp_path / "checkpoint.pth")
        assert recognise(read(tmp_path / "checkpoint.pth")).name == form
        encoder = (encoder or vit(**STANDARD)).eval()
        report = load(encoder, tmp_path / "checkpoint.pth")
        with torch.no_grad():
            expected, got = without_class_token(theirs, images), encoder(images)[-1]
        assert expected.std() > 0.1
        assert (got - expected).abs().max() <= 1e-5
        return report

    return run


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# ----- DeiT ---------------------------------------------------------------------------------------


def test_deit(check):
    theirs = near_one(VisionTransformer(**VIT, num_classes=3))
    report = check({"model": theirs.state_dict()}, theirs, "timm")
    assert "the class token" in report.dropped["head.weight"]


# ----- MAE ----------------------------------------------------------------------------------------


def mae_decoder():
    return {
        "mask_token": noise(1, 1, 4),
        "decoder_pos_embed": noise(1, 17, 4),
        "decoder_embed.weight": noise(4, WIDTH),
        "decoder_embed.bias": noise(4),
        "decoder_blocks.0.attn.qkv.weight": noise(12, 4),
        "decoder_norm.weight": noise(4),
        "decoder_pred.weight": noise(192, 4),
        "decoder_pred.bias": noise(192),
    }


def test_mae_with_its_decoder(check, plain):
    report = check({"model": plain.state_dict() | mae_decoder()}, plain, "mae")
    assert report.dropped["mask_token"] == report.dropped["decoder_pred.bias"] == "MAE's decoder"
    assert report.missing == {"encoder.mask_token": "not in the file"}  # theirs is the decoder's


def test_mae_s_encoder_alone(check, plain):
    checkpoint = {
        "model": plain.state_dict(),
        "optimizer": {},
        "epoch": 3,
        "args": Namespace(lr=1.0),
    }
    check(checkpoint, plain, "timm")


def test_mae_s_decoder_alone_is_refused():
    with pytest.raises(ValueError, match="MAE's decoder only; take the one with the encoder"):
        load(vit(**STANDARD), mae_decoder())


# ----- MoCo v3 ------------------------------------------------------------------------------------


def moco(state, other):
    model = prefixed(state, "module.base_encoder.") | prefixed(other, "module.momentum_encoder.")
    model |= {"module.base_encoder.head.0.weight": noise(16, WIDTH)}
    model |= {"module.base_encoder.head.1.running_mean": noise(16)}
    model |= {"module.predictor.0.weight": noise(16, 16)}
    return {"epoch": 300, "arch": "vit_base", "state_dict": model, "optimizer": {}}


def test_moco_v3_s_base_encoder_is_taken(check, plain):
    momentum = near_one(VisionTransformer(**VIT, num_classes=0), seed=1).state_dict()
    report = check(moco(plain.state_dict(), momentum), plain, "moco")
    assert report.dropped["base_encoder.head.0.weight"] == "MoCo v3's projection"
    assert "base encoder is taken" in report.dropped["momentum_encoder.cls_token"]
    assert "base encoder is taken" in report.dropped["predictor.0.weight"]


def test_moco_v3_s_resnet():
    theirs = near_one(ResNet(Bottleneck, (1, 1, 1, 1), num_classes=0))
    encoder = ResNetEncoder(0.0, 64, (1, 1, 1, 1)).eval()
    checkpoint = moco(theirs.state_dict(), {})["state_dict"]
    checkpoint["module.base_encoder.fc.0.weight"] = noise(16, 2048)
    report = load(encoder, checkpoint)
    assert set(report.missing) == {"encoder.mask_token"}
    assert report.dropped["base_encoder.fc.0.weight"] == "MoCo v3's projection"
    assert torch.equal(encoder.layer4[0].conv3.weight, theirs.layer4[0].conv3.weight)
    assert torch.equal(encoder.bn1.running_var, theirs.bn1.running_var)


def test_moco_v3_s_small_vit_has_other_heads_and_is_refused():
    sizes = VIT | {"embed_dim": 384, "num_heads": 12, "depth": 1}
    state = VisionTransformer(**sizes, num_classes=0).state_dict()
    with pytest.raises(ValueError, match="MoCo v3's ViT-S has 12 heads"):
        FORMATS["moco"].read(prefixed(state, "base_encoder."))


def test_moco_v3_without_its_base_encoder_is_refused(plain):
    with pytest.raises(ValueError, match="no base_encoder of MoCo v3"):
        load(vit(**STANDARD), prefixed(plain.state_dict(), "module.momentum_encoder."))


# ----- DINO ---------------------------------------------------------------------------------------


def dino(state):
    projection = {"head.mlp.0.weight": noise(16, WIDTH), "head.last_layer.weight_g": noise(4, 1)}
    return prefixed(state, "backbone.") | projection


def test_dino_s_teacher_is_taken(check, plain):
    other = near_one(VisionTransformer(**VIT, num_classes=0), seed=1).state_dict()
    checkpoint = {
        "student": prefixed(dino(other), "module."),
        "teacher": dino(plain.state_dict()),
        "optimizer": {"state": {}},
        "epoch": 100,
        "args": Namespace(arch="vit_small"),
        "dino_loss": {"center": noise(1, 4)},
    }
    report = check(checkpoint, plain, "dino")
    assert report.dropped["head.last_layer.weight_g"] == "DINO's projection"


def test_dino_s_backbone_alone(check, plain):
    check(plain.state_dict(), plain, "timm")


def test_dino_without_its_teacher_is_refused(tmp_path, plain):
    checkpoint = {"student": prefixed(dino(plain.state_dict()), "module."), "epoch": 3}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=r"checkpoint.pth: holds .*student"):
        load(vit(**STANDARD), tmp_path / "checkpoint.pth")


# ----- BEiT ---------------------------------------------------------------------------------------


def beit(**options):
    return near_one(Beit(**VIT, use_abs_pos_emb=False, init_values=0.1, **options))


def test_beit_s_pretraining(check):
    """Its mask token stands where mimray's does, so it comes along."""
    theirs = beit(use_shared_rel_pos_bias=True, use_fc_norm=False, num_classes=0)
    extra = {
        "mask_token": noise(1, 1, WIDTH),
        "lm_head.weight": noise(32, WIDTH),
        "lm_head.bias": noise(32),
        "rel_pos_bias.relative_position_index": gen_relative_position_index((4, 4)),
    }
    encoder = vit()
    report = check({"model": theirs.state_dict() | extra}, theirs, "beit", encoder)
    assert not report.missing
    assert torch.equal(encoder.mask_token, extra["mask_token"])
    assert "visual tokens" in report.dropped["lm_head.weight"]


def test_beit_v2_s_extra_layers_are_left_out(check):
    theirs = beit(use_shared_rel_pos_bias=True, use_fc_norm=False, num_classes=0)
    extra = {"lm_head.weight": noise(32, WIDTH)}
    for name, tensor in theirs.blocks[0].state_dict().items():
        extra[f"cls_pt_layers.0.{name}"] = tensor
    report = check({"model": theirs.state_dict() | extra}, theirs, "beit", vit())
    assert "BEiT v2's extra layers" in report.dropped["cls_pt_layers.0.gamma_1"]


def test_beit_s_fine_tuning_has_a_table_in_every_block(check):
    theirs = beit(use_rel_pos_bias=True, num_classes=3)
    index = {
        f"blocks.{n}.attn.relative_position_index": gen_relative_position_index((4, 4))
        for n in range(2)
    }
    encoder = vit(position="per_block", final_norm=False)
    report = check({"model": theirs.state_dict() | index}, theirs, "beit", encoder)
    assert report.dropped["blocks.1.attn.relative_position_index"] == "rebuilt by the model"


def test_a_beit_with_other_parts_is_refused():
    state = Beit(**VIT, swiglu_mlp=True).state_dict()
    with pytest.raises(ValueError, match="a gated MLP"):
        FORMATS["timm"].read(state)


@pytest.mark.parametrize("name", ["beit", "mae", "moco", "dino"])
def test_what_nobody_can_use_is_not_written(name):
    with pytest.raises(ValueError, match="read, not written; timm's names"):
        FORMATS[name].write({})
