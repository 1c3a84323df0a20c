"""Dense window attention beside timm's own."""

import math
from copy import deepcopy

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer import WindowAttention as SwinAttention
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2 import WindowAttention as SwinV2Attention

from mimray.mim.encoders.dense_attention import (
    BiasedAttention,
    CosineAttention,
    fused,
    plain,
    scores,
    use_dense_attention,
)
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder

pytestmark = pytest.mark.unit

VERSIONS = [
    (SwinEncoder, SwinTransformer, SwinAttention, BiasedAttention),
    (SwinV2Encoder, SwinTransformerV2, SwinV2Attention, CosineAttention),
]
SIZES = [
    pytest.param(64, 4, id="shifted"),
    pytest.param((32, 96), 4, id="rectangle"),
    pytest.param(40, 4, id="padded"),
    pytest.param(64, 8, id="window-of-all-in-the-last-stage"),
]


@pytest.fixture(params=VERSIONS, ids=["swin", "swinv2"])
def version(request):
    return request.param


def shaken(encoder, image_size, window):
    """An encoder none of whose parameters is 0: SwinV2's norms start there, and hide its blocks."""
    torch.manual_seed(0)
    built = encoder(image_size, window, 0.0, embed=8, depths=(2, 2), heads=(2, 4))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def blocks(encoder):
    return [block for stage in encoder.layers for block in stage.blocks]


def run(encoder, image_size):
    """Features and gradients of what a batch gives."""
    side = (image_size, image_size) if isinstance(image_size, int) else image_size
    torch.manual_seed(1)
    images = torch.randn(3, 3, *side)
    hidden = torch.rand(3, side[0] // 4, side[1] // 4) < 0.5
    features = encoder(images, hidden)
    sum((f * torch.randn_like(f)).mean() for f in features).backward()
    return features, {name: p.grad for name, p in encoder.named_parameters()}


@pytest.mark.parametrize(("image_size", "window"), SIZES)
def test_features_and_gradients_are_those_of_timm(version, image_size, window):
    encoder, _, timm_attention, attention = version
    dense = shaken(encoder, image_size, window)
    eager = deepcopy(dense)
    use_dense_attention(eager.layers, timm_attention)
    assert all(type(block.attn) is attention for block in blocks(dense))
    assert any(any(block.shift_size) for block in blocks(dense))
    (got, got_gradients), (want, want_gradients) = run(dense, image_size), run(eager, image_size)
    for a, b in zip(got, want, strict=True):
        assert b.std() > 0.1
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for name, gradient in want_gradients.items():
        torch.testing.assert_close(got_gradients[name], gradient, rtol=1e-5, atol=1e-5)
        assert gradient.any(), name


def test_parameters_have_the_names_of_timm(version):
    encoder, timm_encoder, _, _ = version
    ours = shaken(encoder, 64, 4).state_dict()
    theirs = timm_encoder(
        img_size=64, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 4), num_classes=0
    ).state_dict()
    assert set(ours) - {"mask_token", "bias_windows"} == set(theirs)
    assert all(ours[name].shape == tensor.shape for name, tensor in theirs.items())


@pytest.mark.parametrize("windows", [1, 4])
@pytest.mark.parametrize("tokens", [16, 49])
def test_fused_is_plain(windows, tokens):
    torch.manual_seed(0)
    results = []
    q, k, v = torch.randn(3, 3 * windows, 2, tokens, 8)
    mask, direction = torch.randn(windows, 2, tokens, tokens), torch.randn_like(v)
    for attention in (plain, fused):
        inputs = [x.clone().requires_grad_() for x in (q, k, v, mask)]
        out = attention(*inputs)
        (out * direction).sum().backward()
        results.append([out, *(x.grad for x in inputs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_shares_can_be_looked_at(version):
    """What a hook on the attention sees is enough for them, and they are what the output is made of."""
    encoder, image_size = shaken(version[0], 64, 4), 64
    attn, seen = blocks(encoder)[1].attn, {}
    attn.register_forward_hook(
        lambda module, given, named, out: seen.update(x=given[0], out=out, **named),
        with_kwargs=True,
    )
    run(encoder, image_size)
    q, k, v = attn.project(seen["x"])
    shares = scores(q, k, attn.mask(seen["mask"])).softmax(-1)
    assert shares.shape == (3 * 16, 2, 16, 16)
    torch.testing.assert_close(shares.sum(-1), torch.ones(3 * 16, 2, 16))
    out = attn.proj((shares @ v).transpose(1, 2).flatten(2))
    assert torch.equal(out, seen["out"])


def test_a_logit_scale_is_at_most_100():
    attn = blocks(shaken(SwinV2Encoder, 64, 4))[0].attn
    attn.logit_scale.data[:] = torch.tensor([4.0, 5.0]).view(2, 1, 1)
    q, _, _ = attn.project(torch.randn(1, 16, 8))
    torch.testing.assert_close(q.norm(dim=-1)[0, :, 0], torch.tensor([4.0, math.log(100)]).exp())


def test_bf16_stays_close(version):
    """Autocast leaves timm's and this at the same distance from float32."""
    dense = shaken(version[0], 64, 4)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = dense(images)[-1]
        with torch.autocast("cpu", torch.bfloat16):
            got = dense(images)[-1]
            use_dense_attention(dense.layers, version[2])
            eager = dense(images)[-1]
    assert (got - want).norm() <= 1.5 * (eager - want).norm()
    assert (got - want).norm() / want.norm() < 0.1
