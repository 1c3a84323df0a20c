"""The moving average of weights: its closed form, and that the model has it for a while."""

import pytest
import torch
from torch import nn

from mimray.optim.average import AVERAGE, averaged, averages, keep_average

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


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


class TestRunningStatistics:
    """timm's ModelEmaV3 averages everything floating that a state holds, so these too."""

    NAMES = ("1.running_mean", "1.running_var")

    def run(self, steps, left_out=()):
        """A model with a batch norm, its optimiser, and its statistics after each step. Of a step that is
        left out they come as a NaN makes them, and are put back after the update, as `train_step` does."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        keep_average(optimizer, 0.75, [dict(model.named_buffers())[name] for name in self.NAMES])
        seen = []
        for step in range(steps):
            before = {n: b.clone() for n, b in model.named_buffers()}
            optimizer.zero_grad()
            model(torch.randn(5, 3)).square().sum().backward()
            optimizer.found_inf = torch.tensor(float(step in left_out))
            if step in left_out:
                model[1].running_mean.fill_(torch.nan)
            optimizer.step()
            for name, buffer in model.named_buffers():
                buffer.copy_(before[name] if step in left_out else buffer)
            seen.append({n: b.clone() for n, b in model.named_buffers()})
        return model, optimizer, seen

    def test_they_are_averaged_as_the_weights_are(self):
        model, optimizer, (first, *rest) = self.run(4)
        for name in self.NAMES:
            expected = first[name]
            for step in rest:
                expected = 0.75 * expected + 0.25 * step[name]
            torch.testing.assert_close(averages(model, optimizer)[name], expected)
        assert set(averages(model, optimizer)) == {*dict(model.named_parameters()), *self.NAMES}

    @pytest.mark.parametrize("left_out", [0, 2])
    def test_an_update_that_is_left_out_gives_them_nothing(self, left_out):
        model, optimizer, _ = self.run(3, {left_out})
        kept = averages(model, optimizer)
        assert all(average.isfinite().all() for average in kept.values())
        if left_out:
            undisturbed, other, _ = self.run(2)
            for name in self.NAMES:
                assert torch.equal(kept[name], averages(undisturbed, other)[name])

    def test_the_model_has_them_for_a_while(self):
        model, optimizer, seen = self.run(4)
        kept = {name: average.clone() for name, average in averages(model, optimizer).items()}
        with averaged(model, optimizer):
            for name in self.NAMES:
                assert torch.equal(model.state_dict()[name], kept[name])
            assert model[1].num_batches_tracked == 4
        for name in self.NAMES:
            assert torch.equal(model.state_dict()[name], seen[-1][name])
            assert not torch.equal(kept[name], seen[-1][name])
