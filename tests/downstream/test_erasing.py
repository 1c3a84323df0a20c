import hashlib
import math
import random

import pytest
import torch

from mimray.downstream.erasing import _fill_everywhere, _fill_inside, erase, noise, rectangles
from mimray.hashing import key

pytestmark = pytest.mark.unit

ONES = torch.ones(40, 3, 24, 32)
SEEDS = key(5, torch.arange(4000))


def timm_rectangle(height, width, rng):
    """Area of timm's rule (RandomErasing._erase), with this generator's numbers."""
    for _ in range(10):
        area = rng.uniform(0.02, 1 / 3) * height * width
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if w < width and h < height:
            return h, w
    return 0, 0


def sides(inside):
    return inside.any(dim=2).sum(dim=1).double(), inside.any(dim=1).sum(dim=1).double()


def test_one_rectangle_is_filled_in_all_channels_and_nothing_else():
    erased = erase(ONES, 0.5, SEEDS[:40])
    inside = rectangles(0.5, SEEDS[:40], 24, 32)
    assert torch.equal(erased != ONES, inside[:, None].expand_as(ONES))
    rows, columns = inside.any(dim=2), inside.any(dim=1)
    assert torch.equal(inside, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):  # in one piece
        assert (line.int().diff(dim=1).abs().sum(dim=1) <= 2).all()
    assert (ONES == 1).all()


@pytest.mark.parametrize("probability", [0.25, 0.6])
def test_pictures_are_erased_as_often_as_asked(probability):
    share = rectangles(probability, SEEDS, 24, 32).flatten(1).any(dim=1).double().mean().item()
    spread = math.sqrt(probability * (1 - probability) / len(SEEDS))
    assert share == pytest.approx(probability, abs=4 * spread)
    assert erase(ONES, 0.0, SEEDS[:40]) is ONES


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48)])
def test_rectangles_are_timm_s(height, width):
    rng = random.Random(0)
    theirs = torch.tensor([timm_rectangle(height, width, rng) for _ in SEEDS]).double()
    inside = rectangles(1.0, SEEDS, height, width)
    for ours, other in zip(sides(inside), theirs.T, strict=True):
        assert ours.mean().item() == pytest.approx(other.mean().item(), rel=0.03)
        assert ours.std().item() == pytest.approx(other.std().item(), rel=0.05)
    area = inside.flatten(1).sum(dim=1).double()
    their_area = theirs.prod(dim=1)
    assert area.quantile(0.1).item() == pytest.approx(their_area.quantile(0.1).item(), rel=0.1)
    assert area.quantile(0.9).item() == pytest.approx(their_area.quantile(0.9).item(), rel=0.05)


def test_rectangles_lie_anywhere_with_equal_chance():
    share = rectangles(1.0, SEEDS, 24, 32).double().mean(dim=0)
    assert (share - share.flip(0)).abs().max() < 0.05
    assert (share - share.flip(1)).abs().max() < 0.05
    assert share[0, 0] < share[12, 16]


def test_noise_is_standard_normal_and_independent():
    drawn = noise(SEEDS[:200, None], torch.arange(1000))
    assert drawn.dtype == torch.float32 and drawn.isfinite().all()
    assert drawn.mean().abs() < 0.01 and (drawn.std() - 1).abs() < 0.01
    expected = math.erf(1 / math.sqrt(2))
    assert (drawn.abs() < 1).float().mean().item() == pytest.approx(expected, abs=0.005)
    assert (drawn.pow(4).mean() - 3).abs() < 0.1
    longest = noise(torch.tensor([0]), torch.tensor([25_388_290]))  # its 24 bits are all 0
    assert longest.isfinite().all()
    neighbours = torch.corrcoef(torch.stack([drawn[:, :-1].flatten(), drawn[:, 1:].flatten()]))
    assert neighbours[0, 1].abs() < 0.01


def test_a_sample_s_noise_does_not_depend_on_its_batch():
    together = erase(ONES, 1.0, SEEDS[:40])
    for sample in (0, 17, 39):
        alone = erase(ONES[sample : sample + 1], 1.0, SEEDS[sample : sample + 1])
        assert torch.equal(alone[0], together[sample])


def test_rectangles_are_the_same_bits_for_ever():
    """A run that goes on elsewhere, or later, sees the pictures that it would have seen."""
    inside = rectangles(0.6, torch.tensor([0, 1, -5, 2**63 - 1]), 96, 128)
    digest = hashlib.sha256(inside.numpy().tobytes()).hexdigest()[:16]
    assert digest == "2ae08d045a285c34"


def test_filling_everywhere_gives_what_filling_inside_does():
    inside = rectangles(0.7, SEEDS[:40], 24, 32)
    images = torch.randn(40, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        _fill_inside(images, inside, SEEDS[:40]), _fill_everywhere(images, inside, SEEDS[:40])
    )


def test_a_gpu_is_never_waited_for():
    """A tensor without values cannot be looked at."""
    erased = erase(ONES.to("meta"), 0.5, SEEDS[:40].to("meta"))
    assert erased.device.type == "meta" and erased.shape == ONES.shape
