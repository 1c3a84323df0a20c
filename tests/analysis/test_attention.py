"""The diagnostic of attention beside its definitions written out; sums merge, and memory is flat."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimray.analysis import attention
from mimray.analysis.attention import AttentionDiagnostic
from mimray.analysis.attention_layers import attention_layers
from mimray.analysis.attention_maps import attention_probabilities
from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.vit import ViTEncoder

pytestmark = pytest.mark.unit

WINDOWED = ["swin", "swinv2"]


def pictures(count=3, side=(32, 32), seed=1):
    return torch.randn(count, 3, *side, generator=torch.Generator().manual_seed(seed))


def attentions(encoder):
    return [block.attn for stage in encoder.stage_blocks() for block in stage]


def run(encoder, images, **options):
    diagnostic = AttentionDiagnostic(encoder, **options)
    diagnostic.update(images)
    return diagnostic


def written_out(layer, shares, class_token):
    """Distance and entropy of each head, and divergence of each pair, of one layer: loops over queries."""
    shares, attends = shares.double(), layer.attends
    tokens = ~layer.positions[..., 0].isnan()
    placed = tokens.clone()
    if class_token == "keep":
        tokens[:, 0] = True
    sums = {"distance": 0.0, "entropy": 0.0, "divergence": 0.0}
    for window in range(len(attends)):
        for query in tokens[window].nonzero().flatten():
            keys = attends[window, query] & tokens[window]
            p = shares[:, window, :, query][..., keys]
            p = p / p.sum(-1, keepdim=True)
            sums["entropy"] += -(p * p.log()).sum(-1).sum(0)
            ratio = p[:, :, None].log() - p[:, None].log()
            sums["divergence"] += (p[:, :, None] * ratio).sum(-1).sum(0)
            if placed[window, query]:
                apart = layer.positions[window, keys] - layer.positions[window, query]
                sums["distance"] += (p * apart.norm(dim=-1).nan_to_num(0.0)).sum(-1).sum(0)
    pictures = len(shares)
    return (
        sums["distance"] / (pictures * placed.sum()),
        sums["entropy"] / (pictures * tokens.sum()),
        sums["divergence"] / (pictures * tokens.sum()),
    )


@pytest.mark.parametrize(
    ("kind", "side", "class_token"),
    [
        ("shared", (32, 32), "drop"),
        ("shared", (32, 32), "keep"),
        ("absolute", (32, 48), "keep"),
        ("per_block", (48, 32), "drop"),
        ("swin", (32, 32), "drop"),
        ("swin", (40, 40), "keep"),  # padded: its last windows hold both ends of the picture
        ("swinv2", (32, 64), "drop"),
        ("swinv2", (40, 32), "drop"),
    ],
)
def test_numbers_are_those_written_out(tiny, kind, side, class_token):
    encoder, images = tiny(kind, side), pictures(2, side)
    diagnostic = run(encoder, images, class_token=class_token)
    shares = attention_probabilities(encoder, images)
    rows, pairs = iter(diagnostic.rows()), diagnostic.divergence()
    both = diagnostic.divergence(symmetric=True)
    for at, layer in enumerate(attention_layers(encoder)):
        kept = class_token if layer.class_token else "drop"
        distance, entropy, divergence = written_out(layer, shares[layer.name], kept)
        torch.testing.assert_close(pairs[at], divergence, rtol=1e-5, atol=1e-5)
        symmetric = (divergence + divergence.T) / 2
        torch.testing.assert_close(both[at], symmetric, rtol=1e-5, atol=1e-5)
        others = layer.heads - 1
        for head in range(layer.heads):
            row = next(rows)
            assert list(row)[:4] == ["layer", "index", "stage", "head"]
            assert [row[key] for key in list(row)[:4]] == [
                layer.name,
                layer.index,
                layer.stage,
                head + 1,
            ]
            assert row["distance_px"] == pytest.approx(distance[head].item(), rel=1e-5)
            assert row["entropy_nats"] == pytest.approx(entropy[head].item(), rel=1e-5)
            kl, mean = divergence[head].sum().item(), symmetric[head].sum().item()
            assert row["kl_mean"] == pytest.approx(kl / others, abs=1e-5)
            assert row["kl_symmetric_mean"] == pytest.approx(mean / others, abs=1e-5)
    assert next(rows, None) is None


def numbers(diagnostic):
    return [x for row in diagnostic.rows() for x in row.values() if isinstance(x, float)]


@pytest.mark.parametrize("kind", ["shared", *WINDOWED])
@settings(max_examples=5)
@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_shards_merge_to_what_one_pass_gives(tiny, kind, cuts, data):
    encoder, images = tiny(kind), pictures(sum(cuts))
    whole = run(encoder, images)
    shards = [pickle.loads(pickle.dumps(run(encoder, x).state())) for x in images.split(cuts)]
    merged = AttentionDiagnostic(encoder)
    for state in data.draw(st.permutations(shards)):
        shard = AttentionDiagnostic(encoder)
        shard.load(state)
        merged.merge(shard)
    assert merged.pictures == whole.pictures == sum(cuts)
    assert numbers(merged) == pytest.approx(numbers(whole), rel=1e-6, abs=1e-6)


def test_a_state_is_a_copy_and_load_takes_the_place_of_what_was(tiny):
    encoder = tiny("swin")
    diagnostic = run(encoder, pictures())
    state, before = diagnostic.state(), numbers(diagnostic)
    diagnostic.update(pictures(seed=2))
    assert numbers(diagnostic) != before
    diagnostic.load(state)
    assert numbers(diagnostic) == before


@pytest.mark.parametrize("kind", ["shared", *WINDOWED])
def test_memory_does_not_grow_with_the_number_of_pictures(tiny, kind, monkeypatch):
    """What is kept has one size, nothing hooks on, and a batch is worked on in pieces."""
    encoder, pieces, whole = tiny(kind), [], attention.product_sums
    monkeypatch.setattr(attention, "_PIECE", 8192)
    monkeypatch.setattr(
        attention, "product_sums", lambda p, log: pieces.append(p.numel()) or whole(p, log)
    )
    diagnostic, sizes = AttentionDiagnostic(encoder), []
    for count in (1, 2, 100):
        diagnostic.update(pictures(count))
        sizes.append(len(pickle.dumps(diagnostic.state())))
    assert sizes[0] == sizes[1] == sizes[2]
    assert max(pieces) <= 8192 and len(pieces) > 3 * len(diagnostic.layers)
    assert not any(attn._forward_hooks for attn in attentions(encoder))


def test_a_layer_of_one_head_has_nobody_to_differ_from():
    encoder = ViTEncoder(32, 0.0, embed=8, depth=1, heads=1, patch=8).eval()
    row = run(encoder, pictures(1)).rows()[0]
    assert row["kl_mean"] is None and row["kl_symmetric_mean"] is None


def test_what_was_computed_is_said(tiny):
    assert run(tiny("shared"), pictures()).conventions()["class token"].startswith("dropped")
    kept = run(tiny("shared"), pictures(), class_token="keep").conventions()
    assert kept["class token"].startswith("kept")
    swin = run(tiny("swin"), pictures()).conventions()
    assert "windows" in swin and not {"class token", "padding"} & set(swin)
    assert "padding" in run(tiny("swin", 40), pictures(1, (40, 40))).conventions()


def test_wrong_use_is_said_in_a_line(tiny):
    encoder = tiny("shared")
    with pytest.raises(ValueError, match="no picture was seen"):
        AttentionDiagnostic(encoder).rows()
    with pytest.raises(ValueError, match="built for 32 x 32"):
        run(encoder, pictures(1, (48, 48)))
    with pytest.raises(ValueError, match="sums of another encoder"):
        AttentionDiagnostic(encoder).merge(AttentionDiagnostic(tiny("swin")))
    with pytest.raises(ValueError, match="class_token='keep', not 'drop'"):
        AttentionDiagnostic(encoder).merge(AttentionDiagnostic(encoder, "keep"))
    with pytest.raises(ValueError, match="a resnet has no attention"):
        AttentionDiagnostic(build_encoder("resnet_nano", 96))
