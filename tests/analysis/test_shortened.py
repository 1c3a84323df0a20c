"""Encoders without their last blocks: how blocks are counted, and what is loaded of the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.mim.encoders.shortened import shortened_depths, stage_depths, take_remaining
from mimray.optim import layer_scales

pytestmark = pytest.mark.unit
torch.set_num_threads(1)

SMALL = {
    "vit_nano": 32,
    "swin_nano": 32,
    "swinv2_nano": 32,
    "resnet_nano": 32,
    "convnext_nano": 32,
    "replknet_nano": 32,
}
SWIN_BASE = (2, 2, 18, 2)


@pytest.mark.parametrize(
    ("depths", "drop", "drop_from", "remain"),
    [
        (SWIN_BASE, 0, "last", SWIN_BASE),
        (SWIN_BASE, 1, "last", (2, 2, 18, 1)),
        (SWIN_BASE, 2, "last", (2, 2, 17, 1)),
        (SWIN_BASE, 8, "last", (2, 2, 11, 1)),
        (SWIN_BASE, 20, "last", (1, 1, 1, 1)),
        (SWIN_BASE, 8, "longest", (2, 2, 10, 2)),
        (SWIN_BASE, 17, "longest", (2, 2, 1, 2)),
        ((3, 3), 1, "longest", (3, 2)),  # of equally long ones the last
        ((12,), 8, "last", (4,)),
        ((12,), 8, "longest", (4,)),
    ],
)
def test_which_blocks_remain(depths, drop, drop_from, remain):
    assert shortened_depths(depths, drop, drop_from) == remain


@pytest.mark.parametrize(
    ("depths", "drop", "drop_from", "most"),
    [((12,), 12, "last", 11), (SWIN_BASE, 21, "last", 20), (SWIN_BASE, 18, "longest", 17)],
)
def test_more_than_there_are(depths, drop, drop_from, most):
    with pytest.raises(ValueError, match=f"{drop} layers cannot be dropped.* {most} is the most"):
        shortened_depths(depths, drop, drop_from)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 150))
def test_as_many_go_as_were_asked_and_no_stage_goes(depths, drop):
    if drop > sum(depths) - len(depths):
        with pytest.raises(ValueError):
            shortened_depths(tuple(depths), drop)
        return
    remain = shortened_depths(tuple(depths), drop)
    assert sum(remain) == sum(depths) - drop
    assert all(1 <= kept <= depth for kept, depth in zip(remain, depths, strict=True))
    cut = [stage for stage, kept in enumerate(remain) if kept < depths[stage]]
    assert all(remain[stage] == 1 for stage in range(min(cut, default=9) + 1, len(depths)))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("finetune", [False, True])
def test_what_remains_computes_what_it_did(name, finetune):
    """The features of a shortened encoder are those of the whole one with its last blocks as identity."""
    torch.manual_seed(0)
    whole = build_encoder(name, SMALL[name], finetune=finetune).eval()
    short = build_encoder(name, SMALL[name], finetune=finetune, drop_layers=1).eval()
    depths = shortened_depths(stage_depths(ENCODERS[name].sizes), 1)
    halves = 2 if name == "replknet_nano" else 1  # a block of two modules
    assert [len(b) for b in short.stage_blocks()] == [halves * depth for depth in depths]
    assert (short.strides, short.widths[-1]) == (whole.strides, whole.widths[-1])
    for parameter in whole.parameters():  # a fresh one may not show what was left out
        parameter.data.normal_(std=0.1)
    take_remaining(short, whole)
    images = torch.randn(2, 3, SMALL[name], SMALL[name])
    before = whole(images)[-1]
    for blocks, kept in zip(whole.stage_blocks(), short.stage_blocks(), strict=True):
        for block in blocks[len(kept) :]:
            block.forward = lambda x, *_, **__: x
    assert not torch.allclose(short(images)[-1], before, rtol=1e-3)
    torch.testing.assert_close(short(images)[-1], whole(images)[-1])


def test_drop_path_and_layer_decay_run_over_what_remains():
    short = build_encoder("swin_nano", 32, drop_path=0.3, drop_layers=2)
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for s in short.stage_blocks() for b in s]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    scale = layer_scales(short, 0.5)
    assert scale("encoder.layers.2.blocks.1.norm1.weight") == 0.5
    assert scale("encoder.patch_embed.proj.weight") == 0.5**5


def test_the_line_names_the_encoder():
    with pytest.raises(ValueError, match="vit_nano: 8 layers cannot be dropped from 8: each stage"):
        build_encoder("vit_nano", 32, drop_layers=8)
