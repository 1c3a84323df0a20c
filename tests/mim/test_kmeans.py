import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.mim.kmeans import kmeans, means, nearest, spread_out, squared_distances

pytestmark = pytest.mark.unit


def blobs(centres, a_blob=40, spread=0.1, seed=0):
    noise = torch.randn(len(centres), a_blob, centres.shape[1], generator=seeded(seed)) * spread
    noise -= noise.mean(dim=1, keepdim=True)
    return (centres[:, None] + noise).flatten(0, 1)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def in_order(centres):
    return torch.tensor(sorted(centres.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_separate_blobs_are_found_with_their_means(seed):
    corners = torch.tensor([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0], [10.0, 10.0], [50.0, 50.0]])
    points = blobs(corners)
    found = kmeans(points, 5, seed)
    torch.testing.assert_close(in_order(found.centres), corners, atol=1e-4, rtol=0)
    within = ((points - corners.repeat_interleave(40, 0)) ** 2).sum(dim=1).mean()
    assert found.distortion == pytest.approx(within.item(), rel=1e-5)


def test_one_cluster_is_the_mean_and_the_variance():
    points = torch.randn(100, 3, generator=seeded(0))
    found = kmeans(points, 1)
    torch.testing.assert_close(found.centres[0], points.mean(dim=0))
    assert found.distortion == pytest.approx(points.var(dim=0, correction=0).sum().item())


def test_as_many_clusters_as_points_are_the_points():
    points = torch.randn(20, 4, generator=seeded(0))
    found = kmeans(points, 20)
    assert found.distortion == 0.0
    assert torch.equal(in_order(found.centres), in_order(points))


def test_no_point_of_a_line_is_nearer_to_another_centre_and_none_can_move():
    points = torch.arange(100.0)[:, None] ** 1.5
    found = kmeans(points, 7, rounds=1000)
    labels = nearest(points, found.centres)
    for cluster in range(7):
        own = points[labels == cluster]
        assert len(own) and abs(own.mean() - found.centres[cluster, 0]) < 0.05 * own.std()
    assert (labels.diff() != 0).sum() == 6  # each is one piece of the line


def test_the_same_seed_gives_the_same_and_another_another():
    points = torch.rand(500, 3, generator=seeded(0))
    first, again, other = kmeans(points, 8, 1), kmeans(points, 8, 1), kmeans(points, 8, 2)
    assert torch.equal(first.centres, again.centres) and first.rounds == again.rounds
    assert not torch.equal(first.centres, other.centres)


@given(st.integers(0, 50), st.integers(1, 12))
def test_more_rounds_never_make_it_worse(seed, clusters):
    points = torch.rand(60, 2, generator=seeded(seed))
    few, more = (kmeans(points, clusters, seed, rounds).distortion for rounds in (1, 10))
    assert more <= few * (1 + 1e-6)


def test_nearest_is_numpy_s_and_blocks_do_not_show(monkeypatch):
    points, centres = (
        torch.rand(300, 5, generator=seeded(0)),
        torch.rand(17, 5, generator=seeded(1)),
    )
    away = ((points[:, None].double() - centres.double()) ** 2).sum(dim=2).numpy()
    whole = nearest(points, centres)
    assert np.array_equal(whole.numpy(), away.argmin(axis=1))
    squared = squared_distances(points, centres, whole)
    np.testing.assert_allclose(squared.numpy(), away.min(axis=1), rtol=1e-4)
    monkeypatch.setattr("mimray.mim.kmeans._BLOCK", 50)
    assert torch.equal(nearest(points, centres), whole)
    assert torch.equal(squared_distances(points, centres, whole), squared)


def test_of_equal_centres_the_first_is_taken():
    assert nearest(torch.zeros(2, 3), torch.ones(4, 3)).tolist() == [0, 0]


def test_nearest_is_not_dulled_by_bf16():
    points, centres = torch.rand(400, 3, generator=seeded(0)) * 255, torch.arange(256.0)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = nearest(points[:, :1], centres)
    assert (found - points[:, 0].round().long()).abs().max() == 0


def test_an_empty_cluster_moves_to_the_point_that_is_farthest_off():
    points = torch.tensor([[0.0], [2.0], [10.0], [30.0]])
    labels = torch.tensor([0, 0, 0, 0])
    distances = squared_distances(points, torch.tensor([[1.0]]), labels)
    moved = means(points, labels, distances, 3)
    assert moved.flatten().tolist() == [10.5, 30.0, 10.0]


def test_the_start_is_of_different_points():
    points = torch.zeros(1000, 2)
    points[-3:] = torch.eye(2).repeat(2, 1)[:3]  # three values, two of them rare
    start = spread_out(points[-40:], 3, 0)
    assert len(torch.unique(start, dim=0)) == 3


def test_a_point_is_not_taken_twice(monkeypatch):
    monkeypatch.setattr("mimray.mim.kmeans.uniform", lambda ids: torch.zeros(len(ids)))
    points = torch.tensor([[1.0], [1.0], [3.0], [2.0]])
    assert spread_out(points, 3, 0).flatten().tolist() == [1.0, 3.0, 2.0]


def test_the_start_prefers_what_is_far():
    points = torch.cat([torch.randn(200, 2, generator=seeded(0)), torch.tensor([[1000.0, 0.0]])])
    assert all((spread_out(points, 2, seed)[:, 0] == 1000.0).any() for seed in range(20))


@pytest.mark.parametrize("points", [torch.tensor([[1.0], [2.0]]).repeat(50, 1), torch.rand(2, 1)])
def test_too_many_clusters_are_refused(points):
    with pytest.raises(ValueError, match=r"3 clusters are too many: of \d+ points only 2 differ"):
        kmeans(points, 3)
