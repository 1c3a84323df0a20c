"""The plain functions, beside the formulas written out."""

import math

import pytest
import torch

from mimray.analysis.statistics import attention_distance, attention_entropy, head_divergence

pytestmark = pytest.mark.unit


def logs(batch=2, heads=4, tokens=9, spread=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(batch, heads, tokens, tokens, generator=generator)
    return scores.log_softmax(-1)


def broadcast(logs):
    """KL of every pair of heads with a tensor of all of them."""
    p = logs.exp()
    return (p[:, :, None] * (logs[:, :, None] - logs[:, None])).sum(-1).mean(dim=(0, 3))


@pytest.mark.parametrize("tokens", [1, 9, 80], ids=["one", "a window at once", "query by query"])
@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_divergence_is_that_of_all_pairs_written_out(tokens, spread):
    log = logs(tokens=tokens, spread=spread)
    got = head_divergence(log)
    assert got.dtype == torch.float64 and got.shape == (4, 4)
    torch.testing.assert_close(got, broadcast(log.double()), rtol=1e-5, atol=1e-5)
    assert (got >= 0).all() and not got.diagonal().any()


def test_divergence_of_a_vit_base_is_right_to_1e_5():
    log = logs(batch=1, heads=12, tokens=197, spread=2.0)
    want = broadcast(log.double())
    torch.testing.assert_close(head_divergence(log), want, rtol=0, atol=1e-5)


def test_rows_are_the_first_argument_of_the_divergence():
    half, all_ = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.full((4,), 0.25)
    log = torch.stack([half.expand(4, 4), all_.expand(4, 4)])[None].log()
    got = head_divergence(log)
    assert got[0, 1].item() == pytest.approx(math.log(2))
    assert got[1, 0] == torch.inf
    assert got.diagonal().tolist() == [0.0, 0.0]


def test_keys_that_all_heads_shut_out_count_nothing():
    scores = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    scores[..., 3:] = -torch.inf
    want = broadcast(scores[..., :3].log_softmax(-1).double())
    torch.testing.assert_close(head_divergence(scores.log_softmax(-1)), want, rtol=1e-5, atol=1e-6)


def test_identical_heads_do_not_diverge():
    log = logs(heads=1, tokens=80).expand(-1, 5, -1, -1)
    torch.testing.assert_close(head_divergence(log), torch.zeros(5, 5, dtype=torch.float64))


def test_entropy_of_equal_shares_is_log_n_and_of_one_share_0():
    equal, one = torch.full((49, 49), 1 / 49), torch.eye(49)
    got = attention_entropy(torch.stack([equal, one])[None])
    assert got[0].item() == pytest.approx(math.log(49), rel=1e-6)
    assert got[1].item() == 0.0


def test_distance_is_in_the_units_of_the_positions():
    """Three tokens in a row, 16 px apart: (0+16+32 + 16+0+16 + 32+16+0) / 9 with equal shares."""
    positions = torch.tensor([[8.0, 8.0], [8.0, 24.0], [8.0, 40.0]])
    equal, one, ahead = torch.full((3, 3), 1 / 3), torch.eye(3), torch.eye(3).roll(1, 1)
    got = attention_distance(torch.stack([equal, one, ahead]).expand(2, 3, 3, 3), positions)
    assert got.tolist() == pytest.approx([128 / 9, 0.0, (16 + 16 + 32) / 3])
    diagonal = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert attention_distance(torch.eye(2).flip(0)[None, None], diagonal).item() == 5.0
