import pytest
import torch

from mimray.mim.heads import HEADS, build_head

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_head_maps_features_to_the_picture_s_size(kind, outputs):
    head = build_head(kind, 16, 8, outputs)
    assert head(torch.randn(2, 16, 3, 5)).shape == (2, outputs, 24, 40)


def test_linear_puts_channel_colour_row_column_at_that_pixel():
    stride = 4
    head = build_head("linear", 1, stride)
    with torch.no_grad():
        head[0].weight.zero_()
        head[0].bias.copy_(torch.arange(3 * stride**2))
    out = head(torch.zeros(1, 1, 2, 2))[0]
    for colour, row, column in [(0, 0, 0), (1, 2, 3), (2, 3, 0)]:
        value = colour * stride**2 + row * stride + column
        assert out[colour, row, column] == out[colour, row + stride, column + stride] == value


def test_linear_predicts_a_position_from_its_own_features_only():
    head = build_head("linear", 6, 4)
    features = torch.randn(1, 6, 3, 3)
    other = features.clone()
    other[:, :, 1, 2] += 1
    changed = (head(features) != head(other)).any(dim=1)[0]
    assert changed[4:8, 8:12].all() and changed.sum() == 16


def test_an_unknown_head_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown head 'liner'; known: linear"):
        build_head("liner", 16, 8)
