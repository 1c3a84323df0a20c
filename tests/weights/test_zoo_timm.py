"""timm's models against mimray's encoders with the same weights, and timm's registry by shapes."""

import re

import pytest
import timm
import torch
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.resnet import Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer

from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.convnext import ConvNeXtEncoder
from mimray.mim.encoders.resnet import ResNetEncoder
from mimray.weights import FORMATS, load, recognise
from tests.weights.conftest import classifier, pretraining, swin, swinv2, vit

pytestmark = pytest.mark.unit

SWIN = {
    "img_size": 32,
    "patch_size": 4,
    "window_size": 2,
    "embed_dim": 8,
    "depths": (1, 2),
    "num_heads": (1, 2),
}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 8, "depth": 2, "num_heads": 2}
STANDARD = {"position": "absolute", "layer_scale": None}


def near_one(model, seed=0):
    """Weights that differ from their start everywhere, and statistics of batch norm too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                matrix = tensor.ndim > 1 and "table" not in name and "embed" not in name
                wide = tensor[0].numel() ** -0.5 if matrix else 0.2
                tensor.add_(noise.abs() if "running_var" in name else wide * noise)
    return model.eval()


def convnet_norm(model, images):
    return model.head.norm(model.forward_features(images))


def untold(encoder):
    """What timm's files do not say: the windows that SwinV2's position bias was learned at."""
    return {"encoder.bias_windows"} if encoder.family == "swinv2" else set()


def without_class_token(model, images):
    """(B, 1 + N, C) -> (B, C, h, w)."""
    return model.forward_features(images)[:, 1:].transpose(1, 2).unflatten(2, (4, 4))


def channels_first(model, images):
    return model.forward_features(images).permute(0, 3, 1, 2)


# timm's model, its features, and mimray's encoder
MODELS = {
    "swin": (lambda **o: SwinTransformer(**SWIN, **o), channels_first, swin),
    "swinv2": (lambda **o: SwinTransformerV2(**SWIN, **o), channels_first, swinv2),
    "vit": (
        lambda **o: VisionTransformer(**VIT, **o),
        without_class_token,
        lambda: vit(**STANDARD),
    ),
    "beit": (
        lambda **o: Beit(**VIT, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1, **o),
        without_class_token,
        lambda: vit(position="per_block", final_norm=False),
    ),
    "beit_shared": (
        lambda **o: Beit(
            **VIT,
            use_abs_pos_emb=False,
            use_shared_rel_pos_bias=True,
            init_values=0.1,
            use_fc_norm=False,
            **o,
        ),
        without_class_token,
        vit,
    ),
    "resnet": (
        lambda **o: ResNet(Bottleneck, (1, 1, 1, 1), **o),
        lambda model, images: model.forward_features(images),
        lambda: ResNetEncoder(0.0, 64, (1, 1, 1, 1)),
    ),
    "convnext": (
        lambda **o: ConvNeXt(depths=(1, 1, 2, 1), dims=(8, 16, 32, 64), **o),
        convnet_norm,
        lambda: ConvNeXtEncoder(0.0, 8, (1, 1, 2, 1)),
    ),
}


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("kind", MODELS)
def test_a_timm_model_s_features_come_out_of_the_encoder(kind, images):
    build, features, build_encoder = MODELS[kind]
    theirs = near_one(build())
    encoder = build_encoder().eval()
    report = load(encoder, theirs.state_dict())
    assert not report.resized
    assert set(report.missing) == {"encoder.mask_token", *untold(encoder)}
    with torch.no_grad():
        expected, got = features(theirs, images), encoder(images)[-1]
    assert expected.std() > 0.1
    assert (got - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["swin", "swinv2", "beit", "resnet"])
def test_a_timm_classifier_s_logits_come_out_of_the_classifier(kind, images):
    build, _, build_encoder = MODELS[kind]
    theirs = near_one(build(num_classes=3))
    model = classifier(build_encoder(), classes=3).eval()
    report = load(model, theirs.state_dict())
    assert not report.dropped
    with torch.no_grad():
        assert (model.logits(images) - theirs(images)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("kind", "reason"), [("vit", "the class token"), ("convnext", "after the pooling")]
)
def test_a_classifier_that_pools_otherwise_is_left_out(kind, reason):
    translated = FORMATS["timm"].read(MODELS[kind][0](num_classes=3).state_dict())
    assert not any(name.startswith("classifier") for name in translated.weights)
    assert any(reason in why for name, why in translated.dropped.items() if "head." in name)


@pytest.mark.parametrize("kind", MODELS)
def test_timm_takes_what_is_written_and_gives_the_same_features(kind, images):
    build, features, build_encoder = MODELS[kind]
    model = pretraining(near_one(build_encoder()))
    written = FORMATS["timm"].write(model.state_dict())
    if kind == "convnext":
        build, features = (
            (lambda **o: ConvNeXt(**CONVNEXT, **o)),
            lambda m, x: m.forward_features(x),
        )
    theirs = build(num_classes=0)
    absent = {"fc_norm.weight", "fc_norm.bias"} if kind == "beit" else set()
    missing, unexpected = theirs.load_state_dict(written, strict=False)
    assert not unexpected
    assert set(missing) == absent
    with torch.no_grad():
        expected, got = model.encoder(images)[-1], features(theirs.eval(), images)
    assert (got - expected).abs().max() <= 1e-5


CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64), "head_norm_first": True}


def test_a_fine_tuned_classifier_goes_to_timm_whole(images):
    model = near_one(classifier(vit(position="per_block", final_norm=False), classes=3))
    theirs = MODELS["beit"][0](num_classes=3).eval()
    theirs.load_state_dict(FORMATS["timm"].write(model.state_dict()))
    with torch.no_grad():
        assert (model.logits(images) - theirs(images)).abs().max() <= 1e-5


def test_a_bias_of_the_keys_changes_nothing():
    """The reason why mimray's ViT has none: the softmax over keys cancels what all of them share."""
    theirs = near_one(VisionTransformer(**VIT))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        before = theirs.forward_features(images)
        for block in theirs.blocks:
            block.attn.qkv.bias[8:16] += 5.0  # the keys' third
        assert (theirs.forward_features(images) - before).abs().max() <= 1e-5
        theirs.blocks[0].attn.qkv.bias[:8] += 5.0  # the queries'
        assert (theirs.forward_features(images) - before).abs().max() > 1e-2


# ----- timm's registry, by names and shapes -------------------------------------------------------

REGISTRY = {
    "swin_tiny_patch4_window7_224": ("swin_tiny", 224, 7),
    "swin_large_patch4_window12_384": ("swin_large", 384, 12),
    "swinv2_base_window12_192": ("swinv2_base", 192, 12),
    "vit_base_patch16_224": ("vit_standard_base", 224, None),
    "vit_huge_patch14_224": ("vit_standard_huge", 224, None),
    "beit_base_patch16_224": ("vit_base", 224, None),
    "resnet50": ("resnet50", 224, None),
    "convnext_tiny": ("convnext_tiny", 224, None),
}


def on_meta(name, **options):
    with torch.device("meta"):
        return timm.create_model(name, **options)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_registry_s_models_fit_the_encoders(name):
    encoder, size, window = REGISTRY[name]
    state = on_meta(name).state_dict()
    with torch.device("meta"):
        model = build_encoder(encoder, size, window, finetune="beit" in name)
    assert recognise(state).name == "timm"
    report = load(model, state, allow_nan=True)
    assert set(report.missing) == {"encoder.mask_token", *untold(model)}
    assert not report.resized


@pytest.mark.parametrize("name", REGISTRY)
def test_what_is_written_has_the_registry_s_names_and_shapes(name):
    encoder, size, window = REGISTRY[name]
    relative = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "use_fc_norm": False}
    options = relative if "beit" in name else {"head_norm_first": True} if "next" in name else {}
    theirs = on_meta(name, num_classes=0, **options).state_dict()
    with torch.device("meta"):
        ours = build_encoder(encoder, size, window).state_dict()
    written = FORMATS["timm"].write({f"encoder.{n}": t for n, t in ours.items()})
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_small_patch14_reg4_dinov2", "layer scale and register tokens"),
        ("deit_base_distilled_patch16_224", "distillation token"),
        ("vit_base_patch16_clip_224", "a norm before the first block"),
        ("vit_base_patch16_siglip_224", "attention pooling"),
        ("convnextv2_atto", "ConvNeXt V2"),
    ],
)
def test_a_model_with_other_parts_is_refused_by_their_name(name, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        FORMATS["timm"].read(on_meta(name).state_dict())


def test_a_gated_mlp_is_refused_by_its_shape():
    from timm.layers import SwiGLUPacked

    state = VisionTransformer(**VIT, mlp_layer=SwiGLUPacked).state_dict()
    with pytest.raises(ValueError, match=r"gated MLP .*fc1.weight is \(32, 8\)"):
        FORMATS["timm"].read(state)


def test_positions_without_one_for_the_class_token_are_refused():
    state = VisionTransformer(**VIT, no_embed_class=True).state_dict()
    with pytest.raises(ValueError, match="16 positions, which is a square grid and none for the"):
        FORMATS["timm"].read(state)


def test_a_family_that_timm_does_not_have_is_refused():
    with torch.device("meta"):
        state = build_encoder("replknet_nano", 64).state_dict()
    with pytest.raises(ValueError, match="these weights are of none of them"):
        FORMATS["timm"].write({f"encoder.{name}": tensor for name, tensor in state.items()})
