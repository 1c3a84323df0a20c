"""Hugging Face's own models, from and to: the same features, reconstructions, losses and logits."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mimray.mim.encoders import build_encoder
from mimray.weights import FORMATS, load, recognise
from mimray.weights.formats import huggingface_config
from mimray.weights.formats.huggingface_config import config, model_class
from tests.weights.conftest import classifier, pretraining, swin, swinv2, vit
from tests.weights.test_zoo_timm import STANDARD, near_one

pytestmark = pytest.mark.unit
hf = pytest.importorskip("transformers")

SWIN = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": 2,
    "encoder_stride": 8,
}
VIT = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-6,
    "encoder_stride": 8,
}
TABLES = {"use_relative_position_bias": True}
SHARED = {"use_shared_relative_position_bias": True}

# Hugging Face's model, and mimray's encoder
MODELS = {
    "SwinForMaskedImageModeling": (lambda: hf.SwinConfig(**SWIN), swin),
    "SwinModel": (lambda: hf.SwinConfig(**SWIN), swin),
    "Swinv2ForMaskedImageModeling": (lambda: hf.Swinv2Config(**SWIN), swinv2),
    "Swinv2Model": (lambda: hf.Swinv2Config(**SWIN), swinv2),
    "ViTForMaskedImageModeling": (lambda: hf.ViTConfig(**VIT), lambda: vit(**STANDARD)),
    "ViTModel": (lambda: hf.ViTConfig(**VIT), lambda: vit(**STANDARD)),
    "BeitModel": (
        lambda: hf.BeitConfig(**VIT, **TABLES),
        lambda: vit(position="per_block", final_norm=False),
    ),
    "BeitForMaskedImageModeling": (
        lambda: hf.BeitConfig(**VIT, **SHARED, use_mask_token=True),
        vit,
    ),
}
WINDOWS = "encoder.bias_windows"  # SwinV2's, of which their files say nothing


@pytest.fixture(autouse=True)
def seeded():
    """Their models start from torch's own generator."""
    torch.manual_seed(0)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def hidden():
    def draw(patch):
        generator = torch.Generator().manual_seed(8)
        return torch.rand(2, 32 // patch, 32 // patch, generator=generator) < 0.5

    return draw


def as_map(tokens):
    """Tokens of the last stage, after the class token if there is one -> (B, C, 4, 4)."""
    return tokens[:, -16:].transpose(1, 2).unflatten(2, (4, 4))


def saved(model, folder):
    """As `save_pretrained` writes it, under the names of files, and nothing said meanwhile."""
    hf.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("names", ["of files", "in memory"])
def test_their_features_come_out_of_the_encoder(name, names, images, tmp_path):
    settings, build = MODELS[name]
    theirs = near_one(getattr(hf, name)(settings()))
    encoder = build().eval()
    source = theirs.state_dict() if names == "in memory" else saved(theirs, tmp_path)
    report = load(encoder, source)
    assert not report.resized
    assert set(report.missing) <= {"encoder.mask_token", WINDOWS}
    with torch.no_grad():
        if name == "BeitForMaskedImageModeling":
            tokens = theirs.layernorm(theirs.beit(images).last_hidden_state)
        else:
            tokens = theirs.base_model(images).last_hidden_state
        expected, got = as_map(tokens), encoder(images)[-1]
    assert expected.std() > 0.1
    # SwinV2's cosine attention multiplies rounding by ten before the softmax
    assert (got - expected).abs().max() <= (5e-5 if "Swinv2" in name else 1e-5)


@pytest.mark.parametrize("name", [name for name in MODELS if "ForMasked" in name])
def test_their_mask_token_is_ours(name, images, hidden, tmp_path):
    settings, build = MODELS[name]
    theirs = near_one(getattr(hf, name)(settings()))
    encoder = build().eval()
    assert set(load(encoder, saved(theirs, tmp_path)).missing) <= {WINDOWS}
    mask = hidden(encoder.patch)
    with torch.no_grad():
        tokens = theirs.base_model(images, bool_masked_pos=mask.flatten(1)).last_hidden_state
        tokens = theirs.layernorm(tokens) if "Beit" in name else tokens
        assert (encoder(images, mask)[-1] - as_map(tokens)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", [n for n in MODELS if "ForMasked" in n and "Beit" not in n])
def test_their_reconstruction_and_loss_come_out_of_the_model(name, images, hidden, tmp_path):
    settings, build = MODELS[name]
    theirs = near_one(getattr(hf, name)(settings()))
    model = pretraining(build()).eval()
    report = load(model, saved(theirs, tmp_path))
    assert set(report.missing) <= {WINDOWS}
    mask = hidden(model.patch)
    with torch.no_grad():
        expected = theirs(images, bool_masked_pos=mask.flatten(1))
        got = model(images, mask)
    assert (got.prediction - expected.reconstruction).abs().max() <= 1e-5
    assert (got.loss - expected.loss).abs() <= 1e-5  # theirs adds 1e-5 to the count


def written(model, folder, **known):
    """What `mimray weights convert --to huggingface` writes, without the command."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    settings = config(state, known.get("encoder"), known.get("image_size"), known.get("window"))
    (folder / "config.json").write_text(json.dumps(settings))
    tensors = {n: t.contiguous() for n, t in FORMATS["huggingface"].write(state).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    kind = getattr(hf, settings["architectures"][0])
    theirs, loaded = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(loaded.values()), loaded
    return theirs.eval()


@pytest.mark.parametrize(
    ("build", "kind", "known"),
    [
        (swin, "SwinForMaskedImageModeling", {"image_size": 32}),
        (swinv2, "Swinv2ForMaskedImageModeling", {"image_size": 32, "window": 2}),
        (
            lambda: vit(**STANDARD, embed=384, heads=6),
            "ViTForMaskedImageModeling",
            {"encoder": "vit_standard_small"},
        ),
    ],
)
def test_from_pretrained_takes_a_pretrained_model(build, kind, known, images, hidden, tmp_path):
    model = near_one(pretraining(build()))
    theirs = written(model, tmp_path, **known)
    assert type(theirs).__name__ == kind
    mask = hidden(model.patch)
    with torch.no_grad():
        expected, got = model(images, mask), theirs(images, bool_masked_pos=mask.flatten(1))
    assert (got.reconstruction - expected.prediction).abs().max() <= 1e-5
    assert (got.loss - expected.loss).abs() <= 1e-5


def test_simmim_s_vit_is_their_beit(images, hidden, tmp_path):
    model = near_one(pretraining(vit()))
    theirs = written(model, tmp_path)
    assert type(theirs).__name__ == "BeitModel"
    mask = hidden(model.patch)
    with torch.no_grad():
        tokens = theirs(images, bool_masked_pos=mask.flatten(1)).last_hidden_state
        assert (as_map(tokens) - model(images, mask).features).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (swin, "SwinForImageClassification"),
        (swinv2, "Swinv2ForImageClassification"),
        (lambda: vit(position="per_block", final_norm=False), "BeitForImageClassification"),
    ],
)
def test_a_classifier_there_and_back(build, kind, images, tmp_path):
    model = near_one(classifier(build(), classes=3))
    theirs = written(model, tmp_path, image_size=32, window=2)
    assert type(theirs).__name__ == kind
    again = near_one(classifier(build(), classes=3), seed=1)
    report = load(again, tmp_path)
    assert set(report.missing) <= {"encoder.mask_token", WINDOWS}
    with torch.no_grad():
        expected = model.logits(images)
        assert (theirs(images).logits - expected).abs().max() <= 1e-5
        assert (again.logits(images) - expected).abs().max() <= 1e-5


def test_a_classifier_of_the_class_token_is_left_out():
    theirs = hf.ViTForImageClassification(hf.ViTConfig(**VIT))
    translated, dropped = FORMATS["huggingface"].read(theirs.state_dict())
    assert "classifier.weight" not in translated
    assert "the class token" in dropped["classifier.weight"]
    model = near_one(classifier(vit(**STANDARD), classes=3))
    assert model_class(model.state_dict()) == "ViTModel"


def test_mae_s_encoder_there(images):
    settings = {**VIT, "mask_ratio": 0.0, "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1}
    settings |= {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    theirs = near_one(hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**settings)))
    encoder = vit(**STANDARD).eval()
    report = load(encoder, theirs.state_dict())
    assert "MAE's decoder" in report.dropped.values()
    with torch.no_grad():
        order = torch.arange(16.0).expand(2, 16)  # theirs shuffles by it
        tokens = theirs.vit(images, noise=order).last_hidden_state
        assert (encoder(images)[-1] - as_map(tokens)).abs().max() <= 1e-5


def test_the_names_written_are_those_of_their_files(tmp_path):
    """transformers renames as it reads; others' tools do not."""
    for number, build in enumerate(
        (swin, swinv2, lambda: vit(**STANDARD, embed=384, heads=6), vit)
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        known = {"image_size": 32, "window": 2, "encoder": "vit_standard_small"}
        theirs = written(near_one(pretraining(build())), folder, **known)
        with safe_open(saved(theirs, folder / "again") / "model.safetensors", "pt") as file:
            expected = set(file.keys())
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert set(file.keys()) == expected


# ----- refusals -----------------------------------------------------------------------------------


def tiny_dinov2():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return hf.Dinov2Model(hf.Dinov2Config(image_size=28, **sizes))


def tiny_deit():
    return hf.DeiTModel(hf.DeiTConfig(**VIT))


@pytest.mark.parametrize(
    ("build", "words"),
    [(tiny_dinov2, r"layer_scale1|lambda1"), (tiny_deit, "embeddings.distillation_token")],
)
def test_another_model_is_refused_by_what_it_has(build, words):
    with pytest.raises(
        ValueError, match=f"not Swin, SwinV2, ViT or BEiT, or has parts .*({words})"
    ):
        FORMATS["huggingface"].read(build().state_dict())


def test_a_beit_with_two_last_norms_is_refused():
    settings = hf.BeitConfig(**VIT, **SHARED, use_mean_pooling=False)
    state = hf.BeitForMaskedImageModeling(settings).state_dict()
    with pytest.raises(ValueError, match=r"has parts that these have not \(layernorm"):
        FORMATS["huggingface"].read(state)


def test_a_file_without_its_keys_is_refused():
    state = hf.ViTModel(hf.ViTConfig(**VIT)).state_dict()
    del state["layers.1.attention.k_proj.weight"]
    with pytest.raises(ValueError, match=r"no encoder.blocks.1.attn.k.weight, which"):
        FORMATS["huggingface"].read(state)


def state_on_meta(name, size, window=None):
    with torch.device("meta"):
        state = build_encoder(name, size, window).state_dict()
    return {f"encoder.{n}": tensor for n, tensor in state.items()}


def test_a_swin_with_two_windows_is_refused():
    """At 192 px the last stage has 6 x 6 tokens, and so has its window; theirs has one for all."""
    with pytest.raises(
        ValueError, match=r"has one window .* are of 6 and 12 tokens; timm's names have them"
    ):
        FORMATS["huggingface"].write(state_on_meta("swin_large", 192))


def test_a_family_that_they_lack_is_refused():
    with pytest.raises(
        ValueError, match=r"known for Swin, SwinV2 and ViT, .* timm's are known for"
    ):
        FORMATS["huggingface"].write(state_on_meta("resnet_nano", 64))


def test_sizes_that_the_weights_do_not_tell_are_asked_for():
    swinv2_base = state_on_meta("swinv2_base", 192, 12)
    with pytest.raises(ValueError, match="size of its pictures; name it"):
        config(swinv2_base, None, None, 12)
    with pytest.raises(ValueError, match="do not tell its window; name it"):
        config(swinv2_base, None, 192, None)
    tiny = {f"encoder.{n}": t for n, t in vit(**STANDARD).state_dict().items()}
    with pytest.raises(ValueError, match="do not tell its heads; name the encoder"):
        config(tiny, None, None, None)


def test_sizes_that_the_weights_tell():
    tables = config(state_on_meta("swin_base", 192, 6), None, None, None)
    assert (tables["image_size"], tables["window_size"]) == (192, 6)
    assert tables["num_heads"] == [4, 8, 16, 32]
    assert config(state_on_meta("vit_base", 224), None, None, None)["image_size"] == 224
    plain = config(state_on_meta("vit_standard_huge", 224), None, None, None)
    assert (plain["image_size"], plain["patch_size"]) == (224, 14)
    assert (plain["num_attention_heads"], plain["intermediate_size"]) == (16, 5120)


def test_recognised_before_others(tmp_path):
    for build in (hf.SwinModel, hf.ViTModel):
        settings = hf.SwinConfig(**SWIN) if build is hf.SwinModel else hf.ViTConfig(**VIT)
        assert recognise(build(settings).state_dict()).name == "huggingface"
    assert huggingface_config.family(state_on_meta("swinv2_nano", 96)) == "swinv2"
