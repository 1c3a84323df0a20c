import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock

from mimray.mim.heads import HEADS, HeadShape, build_head
from mimray.mim.heads.inverse_swin import (
    WINDOWS,
    InverseSwin,
    PatchSplitting,
    least_padding,
    split_factors,
)
from mimray.optim import parameter_count
from mimray.recipe import Head

pytestmark = pytest.mark.unit

PLAIN = ["linear", "mlp", "inverse_swin_tiny", "inverse_swin_base"]
SWIN_BASE = 86_725_176 + 128  # the encoder at 192 px and window 6, and its mask token


def build(kind, channels, upscale, outputs=3, grid=(2, 3)):
    return build_head(HeadShape(channels, grid, outputs, upscale), Head(kind=kind))


def on_meta(kind, *shape, **more):
    with torch.device("meta"):
        return build(kind, *shape, **more)


def tiny_inverse(upscale, grid=(2, 3), outputs=3, embed=8, depths=(2, 1, 2)):
    torch.manual_seed(0)
    return InverseSwin(HeadShape(16, grid, outputs, upscale), embed, depths, (1, 2, 4))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("upscale", [1, 2, 4, 8, 14, 16, 32])
def test_a_head_maps_features_to_the_target_s_grid(kind, upscale):
    head = on_meta(kind, 16, upscale, outputs=5)
    prediction = head(torch.empty(2, 16, 2, 3, device="meta"))
    assert prediction.shape == (2, 5, 2 * upscale, 3 * upscale)


@pytest.mark.parametrize(
    ("kind", "count", "published"),
    [
        ("linear", 89_874_104, "89.9"),
        ("mlp", 90_923_704, "90.9"),
        ("inverse_swin_tiny", 115_169_621, "115.2"),
        ("inverse_swin_base", 174_758_131, "174.8"),
    ],
)
def test_with_swin_base_there_are_the_paper_s_parameters(kind, count, published):
    """SimMIM, table 4."""
    head = on_meta(kind, 1024, 32, grid=(6, 6))
    assert SWIN_BASE + parameter_count(head.parameters()) == count
    assert f"{count / 1e6:.1f}" == published


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_every_parameter_gets_a_gradient(kind):
    torch.manual_seed(0)
    check_gradients(build(kind, 16, 4))


@pytest.mark.parametrize("upscale", [1, 4, 8])
def test_every_parameter_of_an_inverse_swin_gets_a_gradient(upscale):
    check_gradients(tiny_inverse(upscale))


def check_gradients(head):
    features = torch.randn(2, 16, 2, 3, requires_grad=True)
    prediction = head(features)
    (prediction * torch.randn_like(prediction)).sum().backward()
    assert [n for n, p in head.named_parameters() if not p.grad.abs().sum() > 0] == []
    assert (features.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_plain_head_puts_channel_colour_row_column_at_that_pixel(kind):
    side = 4
    head = build(kind, 1, side)
    with torch.no_grad():
        head[-2].weight.zero_()
        head[-2].bias.copy_(torch.arange(3 * side**2))
    out = head(torch.zeros(1, 1, 2, 2))[0]
    for colour, row, column in [(0, 0, 0), (1, 2, 3), (2, 3, 0)]:
        value = colour * side**2 + row * side + column
        assert out[colour, row, column] == out[colour, row + side, column + side] == value


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_plain_head_predicts_a_position_from_its_own_features_only(kind):
    head = build(kind, 6, 4)
    features = torch.randn(1, 6, 3, 3)
    other = features.clone()
    other[:, :, 1, 2] += 1
    changed = (head(features) != head(other)).any(dim=1)[0]
    assert changed[4:8, 8:12].all() and changed.sum() == 16


def test_the_mlp_is_not_linear():
    head, x = build("mlp", 6, 2), torch.randn(1, 6, 2, 2)
    assert not torch.allclose(head(2 * x) - head(x), head(x) - head(0 * x), atol=1e-3)


def test_patch_splitting_puts_a_position_s_channels_on_its_own_square():
    splitting = PatchSplitting(2, 3, 2)
    x = torch.randn(1, 2, 4, 2)
    other = x.clone()
    other[0, 1, 2] += 1
    changed = (splitting(x) != splitting(other)).any(dim=-1)[0]
    assert changed.shape == (4, 8)
    assert changed[2:4, 4:6].all() and changed.sum() == 4
    with torch.no_grad():
        splitting.norm.weight.zero_()
        splitting.norm.bias.copy_(torch.arange(12))
    assert splitting(x)[0, :2, :2].flatten().tolist() == list(range(12))  # row, column, channel


def test_patch_splitting_has_the_parameters_of_the_merging_that_it_reverses():
    merging = PatchMerging(96, 192)
    assert parameter_count(PatchSplitting(192, 96, 2).parameters()) == parameter_count(
        merging.parameters()
    )


@given(st.integers(1, 64), st.integers(1, 5))
def test_the_splittings_multiply_to_the_upscale_with_doublings_first(upscale, stages):
    factors = split_factors(upscale, stages)
    product = 1
    for factor in factors:
        product *= factor
    assert len(factors) == stages and product == upscale
    assert all(factor in (1, 2) for factor in factors[:-1])
    assert factors[:-1] == sorted(factors[:-1], reverse=True)


def grids_and_stages(head):
    blocks = [[b for b in stage if isinstance(b, SwinTransformerBlock)] for stage in head.stages]
    return [(b[0].input_resolution, b[0].dim, len(b)) for b in blocks], blocks


@pytest.mark.parametrize(
    ("upscale", "sides"), [(32, [6, 12, 24, 48]), (4, [6, 12, 24, 24]), (1, [6, 6, 6, 6])]
)
def test_the_stages_are_the_swin_s_in_reverse_on_finer_and_finer_grids(upscale, sides):
    stages, blocks = grids_and_stages(on_meta("inverse_swin_tiny", 1024, upscale, grid=(6, 6)))
    assert [grid for grid, _, _ in stages] == [(side, side) for side in sides]
    assert [width for _, width, _ in stages] == [768, 384, 192, 96]
    assert [depth for _, _, depth in stages] == [2, 6, 2, 2]
    assert [b[0].attn.num_heads for b in blocks] == [24, 12, 6, 3]
    shifts = [b.shift_size for b in blocks[1]]
    assert shifts == ([(0, 0), (3, 3)] * 3 if sides[1] > 6 else [(0, 0)] * 6)


@pytest.mark.parametrize(("side", "window"), [(6, 6), (7, 7), (8, 8), (10, 5), (12, 6), (14, 7)])
def test_windows_that_suit_the_grid_are_taken(side, window):
    head = on_meta("inverse_swin_tiny", 16, 32, grid=(side, side))
    assert least_padding([(side * 2**n, side * 2**n) for n in range(4)]) == window
    _, blocks = grids_and_stages(head)
    assert {b.window_size for stage in blocks for b in stage} == {(window, window)}


@given(st.integers(1, 40), st.integers(1, 40))
def test_no_other_window_pads_less(rows, columns):
    def padding(window):
        sides = [side for side in (rows, columns) if side > window]
        return sum(-(-side // window) * window - side for side in sides)

    chosen = least_padding([(rows, columns)])
    assert padding(chosen) == min(map(padding, WINDOWS))


def test_an_inverse_swin_looks_beyond_a_position():
    head, features = tiny_inverse(8, grid=(4, 4)), torch.randn(1, 16, 4, 4)
    other = features.clone()
    other[:, :, 0, 0] += 1
    changed = (head(features) != head(other)).any(dim=1)[0]
    assert changed.shape == (32, 32) and changed.sum() > 64


def test_an_unknown_head_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="head 'liner' is not known; did you mean linear"):
        build("liner", 16, 8)


def test_the_plain_heads_are_listed():
    assert set(PLAIN) <= set(HEADS)
