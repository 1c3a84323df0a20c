"""Attention that is known beforehand, in encoders whose weights are set so, has known numbers."""

import math
from itertools import product

import pytest
import torch

from mimray.analysis.attention import AttentionDiagnostic
from mimray.analysis.attention_layers import attention_layers
from mimray.mim.encoders.vit import ViTEncoder

pytestmark = pytest.mark.unit

KINDS = ["shared", "per_block", "absolute", "swin", "swinv2"]
WINDOWED = ["swin", "swinv2"]


def pictures(count=3, side=(32, 32)):
    return torch.randn(count, 3, *side, generator=torch.Generator().manual_seed(1))


def attentions(encoder):
    return [block.attn for stage in encoder.stage_blocks() for block in stage]


def tables(encoder):
    """The tables of position biases, and the index of a token's own place in each."""
    owners = [*attentions(encoder), getattr(encoder, "rel_pos_bias", None)]
    found = [x for x in owners if getattr(x, "relative_position_bias_table", None) is not None]
    return [(x.relative_position_bias_table, x.relative_position_index.diagonal()) for x in found]


@torch.no_grad()
def make_uniform(encoder):
    """Attention that sees neither content nor place."""
    for attn in attentions(encoder):
        attn.qkv.weight.zero_()
        if hasattr(attn, "cpb_mlp"):
            attn.cpb_mlp[2].weight.zero_()
    for table, _ in tables(encoder):
        table.zero_()
    return encoder


@torch.no_grad()
def make_identity(encoder):
    """Attention of every token to itself alone; SwinV2's biases end at 16, and its share of others at
    e^-16."""
    make_uniform(encoder)
    for table, own in tables(encoder):
        table[own] = 200.0
    for attn in attentions(encoder):
        if hasattr(attn, "cpb_mlp"):  # 50 - 1000 |offset| before the sigmoid
            first, last = attn.cpb_mlp[0], attn.cpb_mlp[2]
            first.weight.zero_(), first.bias.zero_()
            first.weight[:4] = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
            first.bias[4] = 1.0
            last.weight[:, :4], last.weight[:, 4] = -1000.0, 50.0
    return encoder


def run(encoder, images):
    diagnostic = AttentionDiagnostic(encoder)
    diagnostic.update(images)
    return diagnostic


def groups(encoder, layer):
    """By name of a window, the middles of the tokens that see each other: windows are cut from where the
    shift begins, and never reach around the picture."""
    block = [block for stage in encoder.stage_blocks() for block in stage][layer.index - 1]
    if encoder.family == "vit":
        stride, window, shift = encoder.patch, (10**6, 10**6), (0, 0)
    else:
        stride = encoder.strides[layer.stage - 1]
        window, shift = block.window_size, block.shift_size
    side = [n // stride for n in (32, 32)]
    found = {}
    for y, x in product(range(side[0]), range(side[1])):
        name = ((y - shift[0]) // window[0], (x - shift[1]) // window[1])
        found.setdefault(name, []).append((y * stride, x * stride))
    return found.values()


@pytest.mark.parametrize("kind", KINDS)
def test_uniform_attention_has_the_mean_distance_and_log_n(tiny, kind):
    encoder = make_uniform(tiny(kind))
    diagnostic = run(encoder, pictures())
    layers = attention_layers(encoder)
    for row in diagnostic.rows():
        distances, entropies = [], []
        for tokens in groups(encoder, layers[row["index"] - 1]):
            for token in tokens:
                distances.append(sum(math.dist(token, other) for other in tokens) / len(tokens))
                entropies.append(math.log(len(tokens)))
        assert row["distance_px"] == pytest.approx(sum(distances) / len(distances), rel=1e-5)
        assert row["entropy_nats"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-6)
        assert row["uniform_nats"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-12)
        assert row["kl_mean"] == pytest.approx(0.0, abs=1e-6)
    if kind in WINDOWED:
        sizes = {len(group) for layer in layers for group in groups(encoder, layer)}
        assert sizes == {4, 8, 16}, "windows that a shift cuts are among them"


def test_uniform_attention_on_the_grid_of_a_vit_base():
    """The exact mean distance of two of 14 x 14 patches of 16 px, and log 196."""
    encoder = ViTEncoder(224, 0.0, embed=24, depth=1, heads=2, patch=16)
    row = run(make_uniform(encoder.eval()), pictures(1, (224, 224))).rows()[0]
    exact = (
        sum(
            16 * math.hypot(y, x) * (14 - abs(y)) * (14 - abs(x))
            for y, x in product(range(-13, 14), repeat=2)
        )
        / 196**2
    )
    assert row["distance_px"] == pytest.approx(exact, rel=1e-6)
    assert row["entropy_nats"] == pytest.approx(math.log(196), rel=1e-6)


@pytest.mark.parametrize("kind", ["shared", "per_block", "swin", "swinv2"])
def test_identity_attention_stays_and_is_certain(tiny, kind):
    rows = run(make_identity(tiny(kind)), pictures()).rows()
    far = 15 * math.exp(-16) if kind == "swinv2" else 0.0  # the share of all others
    for row in rows:
        assert 0 <= row["distance_px"] <= 20 * far + 1e-12
        assert 0 <= row["entropy_nats"] <= 20 * far + 1e-12
        assert row["kl_mean"] == pytest.approx(0.0, abs=1e-6)


@torch.no_grad()
def make_heads_identical(encoder):
    for attn in attentions(encoder):
        heads, width = attn.num_heads, attn.qkv.weight.shape[1]
        for start in (0, width):  # queries, keys
            rows = attn.qkv.weight[start : start + width].unflatten(0, (heads, -1))
            rows.copy_(rows[:1].clone().expand_as(rows))
        biases = attn.q_bias if getattr(attn, "q_bias", None) is not None else attn.qkv.bias[:width]
        parts = biases.unflatten(0, (heads, -1))
        parts.copy_(parts[:1].clone().expand_as(parts))
        if hasattr(attn, "cpb_mlp"):
            attn.cpb_mlp[2].weight.copy_(attn.cpb_mlp[2].weight[:1].clone().expand(heads, -1))
            attn.logit_scale.fill_(2.0)
        if attn.qkv.bias is not None:
            attn.qkv.bias[width : 2 * width].zero_()
    for table, _ in tables(encoder):
        table.copy_(table[:, :1].clone().expand_as(table))
    return encoder


@pytest.mark.parametrize("kind", KINDS)
def test_identical_heads_do_not_diverge(tiny, kind):
    encoder = tiny(kind)
    assert min(row["kl_mean"] for row in run(encoder, pictures()).rows()) > 1e-3
    diagnostic = run(make_heads_identical(encoder), pictures())
    for divergence in diagnostic.divergence():
        torch.testing.assert_close(divergence, torch.zeros_like(divergence), atol=1e-6, rtol=0)
    assert all(row["entropy_nats"] < row["uniform_nats"] - 1e-3 for row in diagnostic.rows())
