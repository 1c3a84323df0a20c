"""Looking at attention: it is what the encoder computes, and the encoder computes what it did."""

import pytest
import torch

from mimray.analysis.attention_layers import attention_layers
from mimray.analysis.attention_maps import attention_probabilities, watched
from mimray.mim.encoders import build_encoder, dense_attention
from mimray.mim.encoders.visible_vit import VisibleBlocks

pytestmark = pytest.mark.unit

KINDS = ["shared", "per_block", "absolute", "swin", "swinv2"]


def pictures(side=(32, 32), count=3):
    return torch.randn(count, 3, *side, generator=torch.Generator().manual_seed(1))


def blocks(encoder):
    return [block for stage in encoder.stage_blocks() for block in stage]


def values(attn, x):
    """(B * windows, N, C) -> (B * windows, heads, N, d), from the weights."""
    bias = attn.qkv.bias
    bias = attn.v_bias if bias is None else bias[-x.shape[-1] :]
    v = torch.nn.functional.linear(x, attn.qkv.weight[-x.shape[-1] :], bias)
    return v.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("side", [(32, 32), (32, 64), (40, 40)], ids=["square", "wide", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_shares_times_values_are_what_the_attention_gives(tiny, kind, side):
    encoder, images, seen = tiny(kind, side), pictures(side), []
    handles = [
        block.attn.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
        for block in blocks(encoder)
    ]
    shares = attention_probabilities(encoder, images)
    for handle in handles:
        handle.remove()
    assert list(shares) == [f"block {n}" for n in range(1, len(seen) + 1)]
    for block, share, (x, out) in zip(blocks(encoder), shares.values(), seen, strict=True):
        torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:-1]))
        mixed = share.flatten(0, 1) @ values(block.attn, x)
        got = block.attn.proj(mixed.transpose(1, 2).flatten(2))
        torch.testing.assert_close(got, out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_stays_the_same_to_the_bit(tiny, kind):
    encoder, images, looks = tiny(kind), pictures(), []
    with torch.no_grad():
        plain = encoder(images)
        with watched(attention_layers(encoder), lambda layer, scores: looks.append(layer.index)):
            assert all(map(torch.equal, encoder(images), plain))
        assert looks == list(range(1, len(blocks(encoder)) + 1))
        encoder(images)
    assert len(looks) == len(blocks(encoder)), "nobody looks any more"


@pytest.mark.parametrize("kind", KINDS)
def test_fused_attention_is_looked_at_as_explicit_attention_is(tiny, kind, monkeypatch):
    encoder, images = tiny(kind), pictures()
    explicit, _ = switched(encoder, False, monkeypatch, images)
    output, shares = switched(encoder, True, monkeypatch, images)
    for a, b in zip(output, explicit, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert len(shares) == len(blocks(encoder))


def switched(encoder, fused, monkeypatch, images):
    """Output and shares with torch's kernels or with the formula; which of them ran is checked."""
    calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def counting(*given, **named):
        calls.append(1)
        return kernel(*given, **named)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr("torch.nn.functional.scaled_dot_product_attention", counting)
        patch.setattr(dense_attention, "scaled_dot_product_attention", counting)
        patch.setattr(
            dense_attention, "attend", dense_attention.fused if fused else dense_attention.plain
        )
        for block in blocks(encoder):
            block.attn.fused_attn = fused
        output, shares = encoder(images), attention_probabilities(encoder, images)
    assert len(calls) == (2 * len(blocks(encoder)) if fused else 0)
    return output, shares


@pytest.mark.parametrize("name", ["vit_nano", "swin_nano", "swinv2_nano"])
def test_the_variant_that_skips_hidden_tokens_has_the_same_attention(name):
    dense, visible = build_encoder(name, 96).eval(), build_encoder(name, 96, visible=40).eval()
    weights = {n: p for n, p in dense.state_dict().items() if n != "mask_token"}
    visible.load_state_dict(weights, strict=False)
    assert isinstance(visible, VisibleBlocks) == (name == "vit_nano")
    images = pictures((96, 96), 1)
    got, want = (attention_probabilities(e, images) for e in (visible, dense))
    assert list(got) == list(want) and all(torch.equal(got[n], want[n]) for n in want)


@pytest.mark.parametrize("kind", ["swin", "swinv2"])
@pytest.mark.parametrize("side", [(32, 32), (32, 64), (64, 40)])
def test_tokens_stand_where_their_pixels_are(tiny, kind, side):
    """A picture whose pixels are their own coordinates goes the way of the tokens."""
    encoder, seen = tiny(kind, side), []
    layers = attention_layers(encoder)
    for layer, block in zip(layers, blocks(encoder), strict=True):
        rows, columns = block.input_resolution
        stride = encoder.strides[layer.stage - 1]
        y = (torch.arange(rows) * stride + stride / 2).view(-1, 1).expand(rows, columns)
        x = (torch.arange(columns) * stride + stride / 2).expand(rows, columns)
        tokens = torch.stack([y, x, torch.ones(rows, columns)], dim=-1)[None]
        block.attn = Recorder(seen)
        block._attn(tokens)
        way = seen.pop()
        there = way[..., 2] == 1
        assert torch.equal(layer.placed, there)
        assert torch.equal(layer.positions[there], way[there][:, :2])


class Recorder(torch.nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def forward(self, x, mask=None):
        self.seen.append(x)
        return x


def test_layers_are_numbered_through_all_stages(tiny):
    layers = attention_layers(tiny("swin"))
    assert [(x.name, x.index, x.stage, x.heads) for x in layers] == [
        ("block 1", 1, 1, 2),
        ("block 2", 2, 1, 2),
        ("block 3", 3, 2, 4),
        ("block 4", 4, 2, 4),
    ]
    assert [x.class_token for x in layers] == [False] * 4
    assert [x.class_token for x in attention_layers(tiny("shared"))] == [True] * 3


@pytest.mark.parametrize("name", ["resnet_nano", "convnext_nano", "replknet_nano"])
def test_an_encoder_without_attention_is_named_with_what_is_possible(name):
    family = name.partition("_")[0]
    with pytest.raises(ValueError, match=f"a {family} has no attention.*receptive field.*CKA"):
        attention_layers(build_encoder(name, 96))


def test_training_mode_and_other_sizes_are_refused(tiny):
    with pytest.raises(ValueError, match=r"evaluation mode; call its eval\(\)"):
        attention_probabilities(tiny("swin").train(), pictures())
    with pytest.raises(ValueError, match=r"images of 64 x 32 pixels, but.* built for 32 x 32"):
        attention_probabilities(tiny("swin"), pictures((64, 32)))
