import pytest
import torch

from mimray.mim.fills import nearest_pixel, visible_mean

pytestmark = pytest.mark.unit


def test_visible_mean_is_each_channel_s_own():
    target = torch.tensor([[[[1.0, 2.0], [3.0, 100.0]], [[10.0, 20.0], [30.0, -7.0]]]])
    hidden = torch.tensor([[[False, False], [False, True]]])
    fill = visible_mean(target, hidden)
    assert fill.shape == target.shape
    assert (fill[0, 0] == 2.0).all() and (fill[0, 1] == 20.0).all()


def test_visible_mean_is_each_picture_s_own():
    target = torch.tensor([0.0, 8.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    hidden = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert torch.equal(visible_mean(target, hidden), target)


def test_hidden_values_do_not_reach_a_fill():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 3, 8, 8, generator=generator)
    hidden = torch.rand(2, 8, 8, generator=generator) < 0.5
    other = torch.where(hidden[:, None], torch.full_like(target, 99.0), target)
    for fill in (visible_mean, nearest_pixel):
        assert torch.equal(fill(target, hidden), fill(other, hidden))


def test_nearest_pixel_copies_across_columns_and_rows():
    row = torch.tensor([5.0, 0.0, 0.0, 0.0, 9.0]).view(1, 1, 1, 5)
    hidden = torch.tensor([[[False, True, True, True, False]]])
    assert nearest_pixel(row, hidden).flatten().tolist() == [5.0, 5.0, 5.0, 9.0, 9.0]
    down = nearest_pixel(row.transpose(2, 3).contiguous(), hidden.transpose(1, 2))
    assert down.flatten().tolist() == [5.0, 5.0, 5.0, 9.0, 9.0]


def test_nearest_pixel_keeps_visible_pixels_and_channels_apart():
    target = torch.arange(48.0).view(1, 3, 4, 4)
    hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden[0, 1:3, 1:3] = True
    fill = nearest_pixel(target, hidden)
    assert torch.equal(fill[:, :, ~hidden[0]], target[:, :, ~hidden[0]])
    assert fill[0, :, 1, 1].tolist() == target[0, :, 1, 0].tolist()  # left before above


def test_nearest_pixel_takes_rectangles():
    target = torch.arange(12.0).view(1, 1, 2, 6)
    hidden = torch.ones(1, 2, 6, dtype=torch.bool)
    hidden[0, 1, 2] = False
    assert (nearest_pixel(target, hidden) == 8.0).all()


@pytest.mark.parametrize(("channels", "size"), [(1, 6), (24, 12), (96, 3)])
def test_fills_take_any_channels_and_any_map(channels, size):
    target = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(2, size, size, dtype=torch.bool)
    hidden[0, :, 1:] = True
    hidden[1, 0] = True
    nearest, mean = nearest_pixel(target, hidden), visible_mean(target, hidden)
    assert torch.equal(nearest[0], target[0, :, :, :1].expand(-1, -1, size))
    assert torch.equal(nearest[1, :, 0], target[1, :, 1])
    torch.testing.assert_close(mean[0, :, 2, 2], target[0, :, :, 0].mean(dim=1))
    torch.testing.assert_close(mean[1, :, 0, 0], target[1, :, 1:].mean(dim=(1, 2)))
