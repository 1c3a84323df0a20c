import math

import pytest
import torch

from mimray.mim.heads import HeadShape, build_head
from mimray.mim.heads.transformer import sine_position
from mimray.optim import parameter_count
from mimray.recipe import Head

pytestmark = pytest.mark.unit


def head(depth=1, width=64, channels=24, outputs=3, upscale=4):
    torch.manual_seed(0)
    shape = HeadShape(channels, (3, 3), outputs, upscale)
    return build_head(shape, Head(kind="transformer", depth=depth, width=width))


def test_the_position_of_a_place_in_closed_form():
    position = sine_position(2, 3, 8, torch.device("cpu")).view(2, 3, 8)
    row, column, slow = 1, 2, 0.01  # 10000^(-1/2)
    waves = [(math.sin, row), (math.cos, row), (math.sin, column), (math.cos, column)]
    expected = [wave(at * rate) for wave, at in waves for rate in (1.0, slow)]
    torch.testing.assert_close(position[row, column], torch.tensor(expected))
    assert len(torch.unique(position.flatten(0, 1), dim=0)) == 6


@pytest.mark.parametrize("grid", [(3, 3), (2, 5), (7, 4)])
def test_any_grid_is_predicted_at_the_target_s_size(grid):
    prediction = head(outputs=5)(torch.randn(2, 24, *grid))
    assert prediction.shape == (2, 5, 4 * grid[0], 4 * grid[1])


def test_a_position_s_outputs_lie_where_the_linear_head_puts_them():
    """Output * upscale^2 + row * upscale + column, the positions row-major."""
    model = head(outputs=2)
    torch.nn.init.zeros_(model.predict.weight)
    with torch.no_grad():
        model.predict.bias.copy_(torch.arange(32))
        prediction = model(torch.randn(1, 24, 2, 2))
    tile = torch.arange(32.0).view(2, 4, 4)
    assert torch.equal(prediction[0], tile.repeat(1, 2, 2))


def test_every_place_looks_at_every_other():
    model = head()
    features = torch.randn(1, 24, 3, 3, requires_grad=True)
    model(features)[0, :, 0, 0].sum().backward()  # of the first place
    assert (features.grad.abs().sum(1) > 0).all()


def test_places_are_told_apart_by_their_position_alone():
    model = head()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    prediction = model(torch.ones(1, 24, 3, 3)).unfold(2, 4, 4).unfold(3, 4, 4)
    places = prediction[0].flatten(1, 2).transpose(0, 1).flatten(1)
    assert len(torch.unique(places, dim=0)) == 9


def test_every_parameter_gets_a_gradient():
    model = head(depth=2)
    model(torch.randn(2, 24, 3, 3)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_one_block_of_512_and_eight_of_them():
    """A block: 12 width^2 weights, 13 width biases and norms; MAE's decoder has eight."""
    with torch.device("meta"):
        one, eight = (head(depth, 512, 768, 3, 16) for depth in (1, 8))
    block = 12 * 512**2 + 13 * 512
    rest = 768 * 512 + 512 + 2 * 512 + 512 * 768 + 768
    assert parameter_count(one.parameters()) == block + rest
    assert parameter_count(eight.parameters()) == 8 * block + rest
    assert eight.blocks[0].attn.num_heads == 8
