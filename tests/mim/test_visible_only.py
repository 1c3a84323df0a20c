"""Visible-only encoders beside timm's own blocks with hidden tokens shut out as keys."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimray.mim.build import build_model
from mimray.mim.drop_path import use_hashed_drop_path
from mimray.mim.encoders import ENCODERS, build_encoder, visible_swin
from mimray.mim.encoders.packing import Places
from mimray.mim.encoders.swin import SwinEncoder, VisibleSwinEncoder
from mimray.mim.encoders.swinv2 import SwinV2Encoder, VisibleSwinV2Encoder
from mimray.mim.encoders.vit import VisibleViTEncoder, ViTEncoder
from mimray.mim.encoders.window_attention import InPicture, InWindows, attend
from mimray.mim.masks import draw
from mimray.recipe import Head, Mask, Model, Recipe

pytestmark = pytest.mark.unit

SWINS = {"swin": (SwinEncoder, VisibleSwinEncoder), "swinv2": (SwinV2Encoder, VisibleSwinV2Encoder)}
FOUR = {"embed": 8, "depths": (2, 2, 2, 2), "heads": (1, 1, 2, 2)}  # patch 4, last stride 32
THREE = {"embed": 8, "depths": (2, 2, 1), "heads": (1, 2, 2)}
VIT = {"embed": 24, "depth": 4, "heads": 2, "patch": 8}
POSITIONS = ["shared", "per_block", "absolute"]


def pair(dense, visible, size, hidden, drop_path=0.0, **sizes):
    """A dense encoder with weights far from their start, and its variant with the same weights."""
    torch.manual_seed(0)
    count = None if hidden is None else int((~hidden[0]).sum())
    left = dense(size, drop_path=drop_path, **sizes)
    right = visible(size, drop_path=drop_path, visible=count, **sizes)
    for name, parameter in left.named_parameters():
        if "logit_scale" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    weights = {k: v for k, v in left.state_dict().items() if k != "mask_token"}
    assert right.load_state_dict(weights, strict=False).missing_keys == ["mask_token"]
    return left.double(), right.double()


def pictures(hidden, patch):
    """Double, (B, 3, H, W), for masks on a grid of `patch` pixels."""
    rows, columns = hidden.shape[1:]
    torch.manual_seed(1)
    return torch.randn(len(hidden), 3, rows * patch, columns * patch, dtype=torch.float64)


def block_mask(size, unit, patch):
    """Three pictures, a rectangle of other cells visible in each; the same count."""
    cells = torch.ones(3, size // unit, size // unit, dtype=torch.bool)
    cells[0, :2, :2] = cells[1, -2:, 1:3] = cells[2, 0, :2] = cells[2, -1, -2:] = False
    return cells.repeat_interleave(unit // patch, 1).repeat_interleave(unit // patch, 2)


def swin_with_keys_shut(encoder, images, hidden):
    """Dense, a picture at a time: the mask of timm's shifted windows takes the hidden keys in."""
    maps = []
    for image, mask in zip(images, hidden, strict=True):
        tokens, stages = encoder.tokens(image[None]), []
        for stage, stride in zip(encoder.layers, encoder.strides, strict=True):
            step = stride // encoder.patch
            tokens = stage.downsample(tokens)
            for block in stage.blocks:
                (high, wide), shift = block.window_size, block.shift_size
                keys = mask[::step, ::step].roll((-shift[0], -shift[1]), (0, 1))
                keys = keys.unflatten(1, (-1, wide)).unflatten(0, (-1, high)).transpose(1, 2)
                shut = -1e4 * keys.reshape(-1, 1, high * wide).expand(-1, high * wide, -1).double()
                own = block.attn_mask
                block.attn_mask = shut if own is None else shut + own
                tokens = block(tokens)
                block.attn_mask = own
            stages.append(tokens)
        stages[-1] = encoder.norm(tokens)
        maps.append(stages)
    return [torch.cat(stage).permute(0, 3, 1, 2) for stage in zip(*maps, strict=True)]


def vit_with_keys_shut(encoder, images, hidden):
    """Dense; the hidden keys go into the bias that timm's blocks take."""
    tokens = encoder.tokens(images).flatten(1, 2)
    keys = torch.nn.functional.pad(hidden.flatten(1), (1, 0))
    bias = -1e4 * keys[:, None, None].double()
    bias = bias.expand(-1, encoder.blocks[0].attn.num_heads, keys.shape[1], -1)
    x = torch.cat([encoder.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    if encoder.rel_pos_bias is not None:
        bias = bias + encoder.rel_pos_bias()
    stages = []
    for block in encoder.blocks:
        x = block(x, shared_rel_pos_bias=bias)
        stages.append(x)
    stages[-1] = encoder.norm(x)
    return [s[:, 1:].transpose(1, 2).unflatten(2, hidden.shape[1:]) for s in stages]


def assert_same(left, right, reference, got, hidden):
    """Features at visible places, and the gradient of every parameter but the mask token."""
    sums = [0.0, 0.0]
    torch.manual_seed(2)
    for want, have in zip(reference, got, strict=True):
        step = hidden.shape[1] // want.shape[2]
        seen = ~hidden[:, None, ::step, ::step]
        torch.testing.assert_close(have * seen, want * seen, rtol=1e-9, atol=1e-9)
        weight = torch.randn_like(want) * seen
        sums = [sums[0] + (want * weight).sum(), sums[1] + (have * weight).sum()]
    for value in sums:
        value.backward()
    wanted = dict(left.named_parameters())
    for name, parameter in right.named_parameters():
        if name != "mask_token":
            gradient = wanted[name].grad
            assert gradient is not None and gradient.abs().max() > 0, name
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", SWINS)
@pytest.mark.parametrize("layout", [InWindows, InPicture])
@pytest.mark.parametrize(("window", "unit", "ratio"), [(3, 32, 0.6), (6, 32, 0.3), (6, 48, 0.7)])
def test_swin_is_the_dense_one_with_hidden_tokens_shut_out(
    family, layout, window, unit, ratio, monkeypatch
):
    monkeypatch.setattr(visible_swin, "lay_out", layout)
    hidden = draw("random", 96, unit, 4, ratio, torch.arange(3))
    left, right = pair(*SWINS[family], 96, hidden, window=window, **THREE)
    images = pictures(hidden, 4)
    reference = swin_with_keys_shut(left, images, hidden)
    assert_same(left, right, reference, right(images, hidden), hidden)


@pytest.mark.parametrize("family", SWINS)
@pytest.mark.parametrize("window", [6, 12])
@pytest.mark.parametrize("mask", ["random 32", "random 64", "block"])
def test_swin_at_the_papers_size_and_windows(family, window, mask):
    if mask == "block":
        hidden = block_mask(192, 32, 4)
    else:
        hidden = draw("random", 192, int(mask.split()[1]), 4, 0.6, torch.arange(2))
    left, right = pair(*SWINS[family], 192, hidden, window=window, **FOUR)
    images = pictures(hidden, 4)
    reference = swin_with_keys_shut(left, images, hidden)
    assert_same(left, right, reference, right(images, hidden), hidden)


@pytest.mark.parametrize("family", SWINS)
def test_swin_on_a_rectangle(family):
    hidden = draw("random", (64, 96), 16, 4, 0.5, torch.arange(2))
    left, right = pair(*SWINS[family], (64, 96), hidden, window=2, **THREE)
    images = pictures(hidden, 4)
    reference = swin_with_keys_shut(left, images, hidden)
    assert_same(left, right, reference, right(images, hidden), hidden)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("unit", "ratio"), [(32, 0.75), (8, 0.4)])
def test_vit_is_the_dense_one_with_hidden_tokens_shut_out(position, unit, ratio):
    hidden = draw("random", 96, unit, 8, ratio, torch.arange(3))
    scale = None if position == "absolute" else 0.1
    sizes = VIT | {"position": position, "layer_scale": scale}
    left, right = pair(ViTEncoder, VisibleViTEncoder, 96, hidden, **sizes)
    images = pictures(hidden, 8)
    reference = vit_with_keys_shut(left, images, hidden)
    assert_same(left, right, reference, right(images, hidden), hidden)


NANO = ["swin_nano", "swinv2_nano", "vit_nano"]


@pytest.fixture(scope="module", params=NANO)
def nano(request):
    """A dense encoder at 96 px, the variant for 5 of 9 cells hidden with its weights, and masks."""
    torch.manual_seed(0)
    dense = build_encoder(request.param, 96, 6)
    hidden = draw("random", 96, 32, dense.patch, 0.5, torch.arange(3))
    visible = build_encoder(request.param, 96, 6, visible=int((~hidden[0]).sum()))
    weights = {k: v for k, v in dense.state_dict().items() if k != "mask_token"}
    visible.load_state_dict(weights, strict=False)
    return dense.eval(), visible.eval(), hidden


def at_cells(hidden, features):
    """The mask on the grid of a map, (B, 1, h, w)."""
    return hidden[:, None, :: hidden.shape[1] // features.shape[2]][
        ..., :: hidden.shape[2] // features.shape[3]
    ]


def test_float32_is_near_enough(nano):
    dense, visible, hidden = nano
    images = pictures(hidden, dense.patch)
    shut = vit_with_keys_shut if dense.family == "vit" else swin_with_keys_shut
    with torch.no_grad():
        got = visible(images.float(), hidden)[-1]
        want = shut(copy.deepcopy(dense).double(), images, hidden)[-1]
    assert ((got - want) * ~at_cells(hidden, got)).abs().max() < 1e-5


def test_names_and_shapes_are_the_dense_encoder_s_but_for_the_mask_token(nano):
    dense, visible, _ = nano
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (dense, visible)]
    tokens = [s.pop("mask_token") for s in shapes]
    assert shapes[0] == shapes[1]
    assert tokens[1][-1] == visible.widths[-1] and tokens[0] != tokens[1]


def test_with_nothing_hidden_it_is_the_dense_encoder(nano):
    dense, visible, hidden = nano
    images = pictures(hidden, dense.patch).float()
    with torch.no_grad():
        for want, got in zip(dense(images), visible(images), strict=True):
            assert torch.equal(want, got)


def test_maps_hold_the_mask_token_last_and_zeros_before(nano):
    _, visible, hidden = nano
    with torch.no_grad():
        maps = visible(pictures(hidden, visible.patch).float(), hidden)
    sides = [96 // stride for stride in visible.strides]
    assert [m.shape for m in maps] == [
        (3, w, s, s) for w, s in zip(visible.widths, sides, strict=True)
    ]
    for number, features in enumerate(maps, start=1):
        fill = visible.mask_token.view(1, -1, 1, 1) if number == len(maps) else torch.zeros(1)
        covered = at_cells(hidden, features)
        assert torch.equal(features * covered, (fill * covered).expand_as(features))
        assert (features * ~covered).abs().sum() > 0


def test_what_lies_under_the_mask_reaches_nothing(nano):
    _, visible, hidden = nano
    images = pictures(hidden, visible.patch).float().requires_grad_()
    visible(images, hidden)[-1].square().sum().backward()
    under = hidden.repeat_interleave(visible.patch, 1).repeat_interleave(visible.patch, 2)[:, None]
    assert (images.grad * under).abs().max() == 0
    assert (images.grad.abs().sum(1, keepdim=True) > 0)[~under].all()
    other = torch.where(under, torch.full_like(images, float("nan")), images)
    with torch.no_grad():
        assert torch.equal(visible(images, hidden)[-1], visible(other, hidden)[-1])


def test_a_picture_s_features_do_not_depend_on_the_others(nano):
    _, visible, hidden = nano
    images = pictures(hidden, visible.patch).float()
    with torch.no_grad():
        together = visible(images, hidden)[-1]
        images[1:] = float("nan")
        torch.testing.assert_close(visible(images, hidden)[-1][0], together[0])


def test_masks_of_another_count_are_refused(nano):
    _, visible, _ = nano
    hidden = draw("random", 96, 32, visible.patch, 0.8, torch.arange(2))
    with pytest.raises(RuntimeError, match="every mask must leave"):
        visible(pictures(hidden, visible.patch).float(), hidden)


def test_without_a_count_it_is_taken_from_the_masks():
    encoder = build_encoder("swin_nano", 96, 6, visible=144).eval()
    hidden = draw("random", 96, 32, 4, 0.5, torch.arange(2))
    images = pictures(hidden, 4).float()
    free = copy.deepcopy(encoder)
    encoder.visible, free.visible = int((~hidden[0]).sum()), None
    with torch.no_grad():
        assert torch.equal(encoder(images, hidden)[-1], free(images, hidden)[-1])
    hidden[1] = True
    with pytest.raises(ValueError, match=r"0 to 256 tokens are visible .* the same number"):
        free(images, hidden)
    with pytest.raises(ValueError, match=r"0 to 0 tokens are visible .* at least one"):
        free(images, torch.ones_like(hidden))


def test_a_cell_hidden_in_part_is_refused():
    encoder = build_encoder("swin_nano", 96, 6, visible=576 - 16)
    hidden = torch.zeros(1, 24, 24, dtype=torch.bool)
    hidden[0, 1:5, 1:5] = True
    with pytest.raises(RuntimeError, match="whole cells of 4 x 4"):
        encoder(torch.zeros(1, 3, 96, 96), hidden)


@pytest.mark.parametrize(
    ("name", "size", "window", "fits"),
    [("swin_base", 192, 7, "2, 3, 6, 12, 24, 48"), ("swinv2_base", 224, 12, "7, 14, 28, 56")],
)
def test_windows_that_do_not_divide_the_grids_are_refused_with_those_that_do(
    name, size, window, fits
):
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=f"model.window={window} .*: {fits}$"),
    ):
        build_encoder(name, size, window, visible=64)


def recipe(encoder):
    unit = ENCODERS[encoder].stride
    return Recipe(
        model=Model(encoder=encoder, image_size=96, window=6, visible_only=True),
        mask=Mask(unit=2 * unit, ratio=0.6),
        head=Head(kind="transformer", width=64),
    )


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", NANO)
def test_a_model_of_it_learns_with_every_parameter(name, bf16):
    torch.manual_seed(0)
    model = build_model(recipe(name))
    for parameter in model.parameters():  # SwinV2's branches start at 0
        parameter.data += 0.02 * torch.randn_like(parameter)
    hidden = draw("random", 96, recipe(name).mask.unit, model.patch, 0.6, torch.arange(4))
    images = pictures(hidden, model.patch).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(images, hidden).loss
    loss.backward()
    assert 0.5 < loss < 1.5  # of noise
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", SWINS)
def test_drop_path_draws_as_in_the_dense_encoder(family, seed):
    hidden = draw("random", 96, 32, 4, 0.5, torch.tensor([seed]))
    left, right = pair(*SWINS[family], 96, hidden, drop_path=0.6, window=6, **THREE)
    for encoder in (left, right):
        use_hashed_drop_path(encoder).current = torch.tensor([seed])
    images = pictures(hidden, 4)
    want, got = swin_with_keys_shut(left, images, hidden)[-1], right(images, hidden)[-1]
    torch.testing.assert_close(got * ~at_cells(hidden, got), want * ~at_cells(hidden, got))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_both_layouts_are_the_same_attention(data):
    """Any windows, shifts and visible places: InPicture knows no windows, InWindows no picture."""
    high, wide = (data.draw(st.integers(1, 4)) for _ in "ab")
    rows, columns = high * data.draw(st.integers(1, 3)), wide * data.draw(st.integers(1, 3))
    shift = data.draw(st.integers(0, high - 1)) * (rows > high), wide // 2 * (columns > wide)
    count = data.draw(st.integers(1, rows * columns))
    block = (
        SwinEncoder((rows, columns), (high, wide), 0.0, 4, (1,), (2,), patch=1).layers[0].blocks[0]
    )
    block.shift_size = shift
    block._init_buffers()
    torch.manual_seed(data.draw(st.integers(0, 99)))
    index = torch.rand(2, rows * columns).argsort(1)[:, :count]
    places = Places(index // columns, index % columns, (rows, columns))
    q, k, v = torch.randn(3, 2, count, 2, 3, dtype=torch.float64)
    table = torch.randn((2 * high - 1) * (2 * wide - 1), 2, dtype=torch.float64)
    a, b = (attend(q, k, v, table, layout(places, block)) for layout in (InWindows, InPicture))
    torch.testing.assert_close(a, b)
