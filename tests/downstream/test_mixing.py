import math

import pytest
import torch
from timm.data.mixup import cutmix_bbox_and_lam

from mimray.downstream.mixing import Mixing, beta, box
from mimray.hashing import key, uniform

pytestmark = pytest.mark.unit

CLASSES = 7


def batch(size, side=16):
    """Pictures of one value each, so that a pixel tells whose it is."""
    values = torch.arange(1.0, size + 1)
    images = values.view(-1, 1, 1, 1).expand(-1, 3, side, side).clone()
    return images, torch.arange(size) % CLASSES, key(3, torch.arange(size)), torch.ones(size)


def own_share(images):
    """Of pictures by `batch`: how much of a picture is its own, by its pixels."""
    value = torch.arange(1.0, len(images) + 1)
    neighbour = (torch.arange(len(images)) ^ 1) + 1.0
    mean = images.double().mean(dim=(1, 2, 3))
    return (mean - neighbour) / (value - neighbour)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0), (0.2, 0.5)])
def test_targets_say_exactly_what_the_pictures_are_made_of(mixup, cutmix):
    images, labels, seeds, weight = batch(64)
    mixed, targets = Mixing(CLASSES, mixup, cutmix, smoothing=0.0)(images, labels, seeds, weight)
    share = own_share(mixed)
    places = torch.arange(64)
    torch.testing.assert_close(targets[places, labels].double(), share, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        targets[places, labels[places ^ 1]].double(), 1 - share, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(share[0::2], share[1::2], atol=1e-5, rtol=0)
    assert share.min() < 0.3 and share.max() > 0.7 and len(share.unique()) > 20


def test_cutmix_swaps_one_rectangle_and_mixup_none():
    images, labels, seeds, weight = batch(200)
    cut, _ = Mixing(CLASSES, mixup=0.0)(images, labels, seeds, weight)
    for pair in cut[:, 0].unflatten(0, (-1, 2)):
        first, second = pair.unique()
        other = pair[0] != pair[0, 0, 0]
        assert torch.equal(pair[0] == first, pair[1] == second)
        for swapped in (other, ~other):  # a corner may lie in the rectangle
            rows, columns = swapped.any(dim=1), swapped.any(dim=0)
            if torch.equal(swapped, rows[:, None] & columns):
                break
        else:
            pytest.fail("neither side is a rectangle")
    smooth, _ = Mixing(CLASSES, cutmix=0.0)(images, labels, seeds, weight)
    assert (smooth.flatten(1).std(dim=1) == 0).all()
    both, _ = Mixing(CLASSES)(images, labels, seeds, weight)
    cuts = both.flatten(1).std(dim=1) > 0
    assert 0.35 < cuts.float().mean() < 0.65


def test_pictures_are_the_same_however_the_batch_is_cut():
    images, labels, seeds, weight = batch(12)
    images = images + torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    weight[7] = 0.0
    mixing = Mixing(CLASSES)
    together = mixing(images, labels, seeds, weight)
    for cut in (2, 4, 6):
        pieces = [t.split(cut) for t in (images, labels, seeds, weight)]
        parts = [mixing(*piece) for piece in zip(*pieces, strict=True)]
        for whole, of_parts in zip(together, zip(*parts, strict=True), strict=True):
            assert torch.equal(whole, torch.cat(of_parts))


def test_a_picture_without_a_readable_neighbour_stays_as_it_is():
    images, labels, seeds, weight = batch(7)
    weight[[1, 4]] = 0.0
    mixed, targets = Mixing(CLASSES, smoothing=0.0)(images, labels, seeds, weight)
    for alone in (0, 5, 6):
        assert torch.equal(mixed[alone], images[alone])
        assert targets[alone].tolist() == [float(c == labels[alone]) for c in range(CLASSES)]
    assert not torch.equal(mixed[2], images[2])
    one, _ = Mixing(CLASSES)(images[:1], labels[:1], seeds[:1], weight[:1])
    assert torch.equal(one, images[:1])


def test_smoothing_is_timm_s_and_can_stand_alone():
    images, labels, seeds, weight = batch(4)
    same, targets = Mixing(CLASSES, 0.0, 0.0, smoothing=0.14)(images, labels, seeds, weight)
    assert same is images and targets.dtype == torch.float32
    expected = torch.full((4, CLASSES), 0.02)
    expected[torch.arange(4), labels] = 0.88
    torch.testing.assert_close(targets, expected)
    _, mixed = Mixing(CLASSES)(images, labels, seeds, weight)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(4))
    assert mixed.min() == pytest.approx(0.1 / CLASSES)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    special = pytest.importorskip("scipy.special")
    draws = 50_000
    first, second = uniform(key(4, torch.arange(draws)[:, None], torch.arange(2))).unbind(1)
    drawn = beta(alpha, first, second).sort().values
    assert drawn.min() >= 0.0 and drawn.max() <= 1.0
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    distance = special.betainc(alpha, alpha, drawn.numpy()) - (torch.arange(draws) / draws).numpy()
    assert abs(distance).max() < 1.95 / math.sqrt(draws)  # Kolmogorov's, at 0.1 %


def test_a_beta_is_a_number_at_the_ends_of_its_uniforms():
    edge = torch.tensor([0.0, 0.25, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    first, second = (t.flatten() for t in torch.meshgrid(edge, edge, indexing="ij"))
    for alpha in (0.01, 0.8, 1.0):
        assert beta(alpha, first, second).isfinite().all()


def test_boxes_and_the_shares_that_their_borders_leave_are_timm_s(monkeypatch):
    """Its own function, given the same draws."""
    edges = torch.tensor([0.0, 0.3, 0.75, 0.99, 1.0], dtype=torch.float64)
    some = uniform(key(6, torch.arange(3)[:, None], torch.arange(200)))
    share, y, x = some.double()
    share = torch.cat([edges, share[5:]])
    height, width = 12, 17
    found = box(share, y, x, height, width)
    for one, lam, *centre in zip(found, share.tolist(), y.tolist(), x.tolist(), strict=True):
        draws = iter(centre)
        monkeypatch.setattr(
            "numpy.random.randint", lambda low, high, size, d=draws: int(next(d) * high)
        )
        (top, bottom, left, right), kept = cutmix_bbox_and_lam((3, height, width), lam)
        expected = torch.zeros(height, width, dtype=torch.bool)
        expected[top:bottom, left:right] = True
        assert torch.equal(one, expected)
        assert 1.0 - one.double().mean().item() == pytest.approx(kept, abs=1e-12)


def test_mixing_never_waits_for_the_device():
    """A tensor without values cannot be looked at."""
    images, labels, seeds, weight = (t.to("meta") for t in batch(6))
    mixed, targets = Mixing(CLASSES)(images, labels, seeds, weight)
    assert mixed.device.type == "meta" and targets.shape == (6, CLASSES)
