import pytest
import torch

from mimray.downstream.features import LAST, layer_names, pooled_features
from mimray.mim.encoders import build_encoder

pytestmark = pytest.mark.unit

torch.set_num_threads(1)

NAMES = ["vit_nano", "swin_nano", "swinv2_nano", "resnet_nano", "convnext_nano", "replknet_nano"]


def built(name, **more):
    torch.manual_seed(0)
    encoder = build_encoder(name, 96, **more).eval()
    with torch.no_grad():  # norms that start at 0 and tokens that start at 0 would hide faults
        for parameter in encoder.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return encoder


@pytest.fixture(params=NAMES)
def encoder(request):
    return built(request.param)


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def test_the_last_blocks_of_the_stages_are_the_feature_maps(encoder, images):
    maps = encoder(images)
    counts = [len(stage) for stage in encoder.stage_blocks()]
    assert layer_names(encoder) == [f"block {n + 1}" for n in range(sum(counts))] + [LAST]
    found = pooled_features(encoder, images, layer_names(encoder))
    ends = encoder.ends if encoder.family == "vit" else torch.tensor(counts).cumsum(0).tolist()
    for end, of_stage in zip(ends[:-1], maps[:-1], strict=True):
        torch.testing.assert_close(found[f"block {end}"], of_stage.mean(dim=(2, 3)))
    torch.testing.assert_close(found[LAST], maps[-1].mean(dim=(2, 3)))
    assert [t.shape for t in found.values()] == [
        (2, width)
        for width, count in zip(encoder.widths, counts, strict=False)
        for _ in range(count)
    ] + [(2, encoder.channels)]


def test_layers_come_in_the_order_asked_and_no_hook_stays(encoder, images):
    found = pooled_features(encoder, images, [LAST, "block 2"])
    assert list(found) == [LAST, "block 2"]
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in found.values())
    assert not any(m._forward_hooks for m in encoder.modules())
    with pytest.raises(RuntimeError):
        pooled_features(encoder, images[:, :2], ["block 1"])
    assert not any(m._forward_hooks for m in encoder.modules())


@pytest.mark.parametrize("finetune", [False, True])
def test_a_vit_s_class_token_is_its_first(images, finetune):
    encoder = built("vit_nano", finetune=finetune)
    blocks = []
    handles = [b.register_forward_hook(lambda m, i, o: blocks.append(o)) for b in encoder.blocks]
    encoder(images)
    for handle in handles:
        handle.remove()
    mean = pooled_features(encoder, images, ["block 5", LAST])
    cls = pooled_features(encoder, images, ["block 5", LAST], "cls")
    torch.testing.assert_close(cls["block 5"], blocks[4][:, 0])
    torch.testing.assert_close(mean["block 5"], blocks[4][:, 1:].mean(dim=1))
    torch.testing.assert_close(cls[LAST], encoder.norm(blocks[-1])[:, 0])
    assert not torch.allclose(mean[LAST], cls[LAST])


def test_features_in_bfloat16_are_pooled_in_float32(images):
    encoder = built("convnext_nano")
    exact = pooled_features(encoder, images, layer_names(encoder))
    found = pooled_features(encoder.bfloat16(), images.bfloat16(), layer_names(encoder))
    for name, pooled in found.items():
        assert pooled.dtype == torch.float32
        assert not torch.equal(pooled, pooled.bfloat16().float())
        torch.testing.assert_close(pooled, exact[name], rtol=0.1, atol=0.1)


def test_what_an_encoder_has_not_is_refused(images):
    encoder = built("swin_nano")
    with pytest.raises(ValueError, match=r"layer 'blok 3' is not one .* did you mean block 3"):
        pooled_features(encoder, images, ["blok 3"])
    with pytest.raises(ValueError, match="a swin has no class token; take pooling mean"):
        pooled_features(encoder, images, [LAST], "cls")
    with pytest.raises(ValueError, match=r"call its eval\(\) before"):
        pooled_features(encoder.train(), images, [LAST])
