import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import DropPath

from mimray.hashing import key
from mimray.mim.drop_path import HashedDropPath, SampleSeeds, random_seeds, use_hashed_drop_path

pytestmark = pytest.mark.unit


def build(rate, layer=0, seeds=None):
    holder = SampleSeeds()
    holder.current = seeds
    return HashedDropPath(rate, layer, holder).train()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_kept_samples_is_one_minus_the_rate(rate):
    drop = build(rate, seeds=key(1, torch.arange(20_000)))
    kept = (drop(torch.ones(20_000, 1)) != 0).double().mean().item()
    assert abs(kept - (1 - rate)) < 4 * (rate * (1 - rate) / 20_000) ** 0.5


@pytest.mark.parametrize("shape", [(64,), (64, 5), (64, 5, 3), (64, 2, 2, 3)])
def test_a_sample_is_dropped_whole_or_rescaled(shape):
    out = build(0.25, seeds=torch.arange(64))(torch.ones(shape)).reshape(64, -1)
    assert out.shape == (64, torch.ones(shape)[0].numel())
    for sample in out:
        assert (sample == 0).all() or torch.allclose(sample, torch.tensor(1 / 0.75))
    assert 0 < (out[:, 0] == 0).sum() < 64


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9), st.integers(0, 50))
def test_a_sample_s_draw_does_not_depend_on_its_batch(seeds, layer):
    together = build(0.5, layer, torch.tensor(seeds))(torch.ones(len(seeds), 2))
    for row, seed in zip(together, seeds, strict=True):
        alone = build(0.5, layer, torch.tensor([seed]))(torch.ones(1, 2))
        assert torch.equal(row, alone[0])


def test_layers_draw_apart():
    seeds = torch.arange(1000)
    a, b = (build(0.5, layer, seeds)(torch.ones(1000, 1)) != 0 for layer in (0, 1))
    assert 400 < (a == b).sum() < 600


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = torch.randn(8, 3)
    assert torch.equal(build(0.9).eval()(x), x)
    assert torch.equal(build(0.0)(x), x)


def test_half_precision_stays_half():
    out = build(0.5, seeds=torch.arange(4))(torch.ones(4, 2, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16


def test_every_timm_drop_path_is_replaced_and_numbered():
    module = torch.nn.Sequential(DropPath(0.1), torch.nn.ModuleList([DropPath(0.2)]), DropPath(0.3))
    seeds = use_hashed_drop_path(module)
    found = [m for m in module.modules() if isinstance(m, HashedDropPath)]
    assert [(m.rate, m.layer) for m in found] == [(0.1, 0), (0.2, 1), (0.3, 2)]
    assert all(m.seeds is seeds for m in found)
    assert not any(isinstance(m, DropPath) for m in module.modules())


def test_random_seeds_come_from_torch_s_stream():
    torch.manual_seed(3)
    first = random_seeds(5, torch.device("cpu"))
    torch.manual_seed(3)
    assert first.dtype == torch.int64 and torch.equal(first, random_seeds(5, torch.device("cpu")))
