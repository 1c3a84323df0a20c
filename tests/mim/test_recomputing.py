"""Activation checkpointing: the same bits for less memory."""

from math import prod

import pytest
import torch

from mimray.mim.build import assemble
from mimray.mim.encoders import build_encoder
from mimray.mim.masks import draw
from mimray.mim.recomputing import recompute_stages
from mimray.mim.targets import build_target
from mimray.recipe import Head, TargetSettings

pytestmark = pytest.mark.unit

SIZE, BATCH, UNIT = 96, 2, 32
NAMES = ["swin_nano", "swinv2_nano", "vit_nano", "resnet_nano", "convnext_nano", "replknet_nano"]
VISIBLE = ["swin_nano", "swinv2_nano", "vit_nano"]


def build(name, visible=False, stages=(), drop_path=0.4):
    torch.manual_seed(0)
    count = None
    if visible:  # 3 of 9 cells stay visible at 60 %
        count = 3 * (UNIT // (8 if name == "vit_nano" else 4)) ** 2
    encoder = build_encoder(name, SIZE, drop_path=drop_path, visible=count)
    side = SIZE // encoder.stride
    head = Head(kind="transformer" if visible else "linear")
    model = assemble(encoder, build_target(TargetSettings(), SIZE), (side, side), head)
    with torch.no_grad():  # SwinV2's blocks start as nothing, their norms being 0
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    recompute_stages(encoder, stages)
    return model


def forward(model, seed=0):
    seeds = torch.arange(BATCH) + seed
    torch.manual_seed(seed)
    hidden = draw("random", SIZE, UNIT, model.patch, 0.6, seeds)
    return model(torch.randn(BATCH, 3, SIZE, SIZE), hidden, seeds).loss


def results(model):
    """Loss, gradients and buffers after two forward and backward passes."""
    for seed in (0, 1):
        loss = forward(model, seed)
        loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}


def kept_bytes(model):
    """Of the activations that a forward pass keeps for the backward pass."""
    kept = {}

    def pack(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(model).backward()
    return sum(kept.values())


def every_stage(model):
    return range(1, len(model.encoder.stage_blocks()) + 1)


@pytest.mark.parametrize(
    ("name", "visible"), [(n, False) for n in NAMES] + [(n, True) for n in VISIBLE]
)
def test_results_are_bit_equal(name, visible):
    plain, recomputed = build(name, visible), build(name, visible)
    recompute_stages(recomputed.encoder, every_stage(recomputed))
    want, got = results(plain), results(recomputed)
    assert want.keys() == got.keys()
    assert all(torch.equal(got[key], want[key]) for key in want)


@pytest.mark.parametrize("name", NAMES)
def test_less_is_kept(name):
    one = kept_bytes(build(name, stages=[1]))
    plain = build(name)
    every = kept_bytes(build(name, stages=every_stage(plain)))
    assert every <= one < kept_bytes(plain)
    assert every < 0.6 * kept_bytes(plain)


def test_what_is_kept_of_a_block_is_what_goes_in():
    encoder = build("vit_nano").encoder
    block, tokens = encoder.blocks[0], torch.randn(2, 145, 144, requires_grad=True)
    recompute_stages(encoder, [1])
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        block(tokens)
    assert sum(prod(shape) for shape in kept) == tokens.numel()


def test_statistics_of_batch_norms_count_a_picture_once():
    model = build("resnet_nano", stages=[1, 2, 3])
    forward(model).backward()
    counts = [b for name, b in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts and all(count == 1 for count in counts)


@pytest.mark.parametrize("name", ["swinv2_nano", "resnet_nano"])
def test_a_forward_pass_in_between_changes_nothing(name):
    """Seeds of drop path and statistics are those of the pictures that are computed again."""
    plain, recomputed = build(name), build(name, stages=[1, 2, 3])
    for model in (plain, recomputed):
        losses = [forward(model, 0), forward(model, 1)]
        sum(losses).backward()
        assert torch.equal(model.sample_seeds.current, torch.arange(BATCH) + 1)
    for (key, a), b in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=key)
    for (key, a), b in zip(plain.named_buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(a, b), key


def test_evaluation_is_as_it_was():
    plain, recomputed = build("resnet_nano").eval(), build("resnet_nano", stages=[1, 2]).eval()
    with torch.no_grad():
        assert torch.equal(forward(plain), forward(recomputed))


@pytest.mark.parametrize(
    ("name", "stages", "has"),
    [
        ("swin_nano", [1, 4], "stages 1 to 3, and no 4"),
        ("vit_nano", [0, 1], "one stage, 1, and no 0"),
    ],
)
def test_a_stage_that_is_not_there(name, stages, has):
    encoder = build(name).encoder
    with pytest.raises(ValueError, match=rf"checkpoint_stages=\[.*{has}"):
        recompute_stages(encoder, stages)
    assert not any("forward" in vars(b) for blocks in encoder.stage_blocks() for b in blocks)
