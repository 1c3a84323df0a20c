"""The moving average of weights: its closed form, and that it travels with the optimiser's state."""

import pytest
import torch
from torch import nn

from mimray.optim.average import AVERAGE, averaged, keep_average

pytestmark = pytest.mark.unit


def trained(decay=0.75, steps=4):
    """A model after some steps, its optimiser, and its weights after each of them."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    keep_average(optimizer, decay)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
        seen.append(model.weight.detach().clone())
    return model, optimizer, seen


def test_it_is_the_weighted_sum_of_the_weights_so_far():
    model, optimizer, (first, *rest) = trained(0.75)
    expected = first
    for weight in rest:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(optimizer.state[model.weight][AVERAGE], expected)


def test_the_model_has_it_for_a_while_and_gets_its_own_back_whatever_happens():
    model, optimizer, seen = trained()
    average = optimizer.state[model.weight][AVERAGE].clone()
    with pytest.raises(KeyError), averaged(model, optimizer):
        torch.testing.assert_close(model.weight.detach(), average)
        raise KeyError
    assert torch.equal(model.weight.detach(), seen[-1])
    assert torch.equal(optimizer.state[model.weight][AVERAGE], average)


def test_before_the_first_update_there_is_none():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    keep_average(optimizer, 0.5)
    before = model.weight.detach().clone()
    with averaged(model, optimizer):
        assert torch.equal(model.weight.detach(), before)


def test_moments_are_those_of_an_optimiser_without_it():
    model, optimizer, _ = trained()
    torch.manual_seed(0)
    plain = nn.Linear(3, 2)
    other = torch.optim.AdamW(plain.parameters(), lr=0.1, fused=True)
    for _ in range(4):
        other.zero_grad()
        plain(torch.randn(5, 3)).square().sum().backward()
        other.step()
    for name in ("exp_avg", "exp_avg_sq", "step"):
        ours = optimizer.state[model.weight][name]
        torch.testing.assert_close(ours, other.state[plain.weight][name], rtol=0, atol=0)
