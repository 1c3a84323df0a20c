import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimray.downstream import knn
from mimray.downstream.knn import knn_scores, nearest

pytestmark = pytest.mark.unit

torch.set_num_threads(1)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(knn, "_ROWS", 50)
    monkeypatch.setattr(knn, "_QUERIES", 7)


def stable_nearest(features, queries, k):
    """All similarities at once, in float64, sorted; of equal ones the lower row first."""
    a, b = (torch.nn.functional.normalize(t.double(), dim=1) for t in (features, queries))
    order = (b @ a.T).sort(dim=1, descending=True, stable=True)
    return order.values[:, :k], order.indices[:, :k]


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("rows", [40, 50, 117, 160])
def test_neighbours_are_those_of_the_whole_product(small_blocks, rows, k):
    g = torch.Generator().manual_seed(rows)
    features, queries = torch.randn(rows, 6, generator=g), torch.randn(23, 6, generator=g)
    similarity, row = nearest(features, queries, k)
    expected, expected_row = stable_nearest(features, queries, k)
    assert torch.equal(row, expected_row)
    torch.testing.assert_close(similarity.double(), expected, atol=1e-6, rtol=0)


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 30), st.integers(0, 1000))
def test_of_equal_neighbours_the_lower_row_is_nearer(rows, k, seed):
    """Along axes every similarity is 1, 0 or -1, so nearly all are equal."""
    k = min(k, rows)
    g = torch.Generator().manual_seed(seed)

    def axes(count):
        index = torch.randint(3, (count,), generator=g)
        return torch.eye(3)[index] * (2.0 * torch.randint(2, (count, 1), generator=g) - 1)

    features, queries = axes(rows), axes(9)
    before = knn._ROWS, knn._QUERIES
    try:
        knn._ROWS, knn._QUERIES = 50, 7
        similarity, row = nearest(features, queries, k)
    finally:
        knn._ROWS, knn._QUERIES = before
    expected, expected_row = stable_nearest(features, queries, k)
    assert torch.equal(similarity.double(), expected)
    assert torch.equal(row, expected_row)


def test_scores_are_the_weighted_votes():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    labels = torch.tensor([2, 0, 2, 1])
    scores = knn_scores(features, labels, 4, torch.tensor([[5.0, 0.0]]), k=3, temperature=0.5)
    votes = torch.tensor([1.0, 0.6, 0.0]).div(0.5).exp()
    expected = torch.tensor([[votes[1], 0.0, votes[0] + votes[2], 0.0]]) / votes.sum()
    torch.testing.assert_close(scores, expected)


def test_fewer_features_than_k_all_count():
    features = torch.eye(3)
    scores = knn_scores(features, torch.tensor([0, 1, 1]), 2, features, k=20, temperature=1.0)
    e = torch.tensor(1.0).exp()
    torch.testing.assert_close(scores[0], torch.stack([e, torch.tensor(2.0)]) / (e + 2))


def test_separate_clusters_are_told_apart_from_a_mapped_file_of_float16(tmp_path):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 5
    features = 3 * torch.eye(5, 32)[labels] + 0.3 * torch.randn(300, 32, generator=g)
    np.save(tmp_path / "f.npy", features.half().numpy())
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    scores = knn_scores(mapped, labels, 5, mapped[::3])
    assert torch.equal(scores.argmax(dim=1), labels[::3])
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(100))
    torch.testing.assert_close(scores, knn_scores(features.half(), labels, 5, features[::3].half()))


def test_wrong_input_is_refused_in_one_line():
    f, labels = torch.eye(3), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match="labels run from 0 to 2, beyond 0 to 1"):
        knn_scores(f, labels, 2, f)
    with pytest.raises(
        ValueError, match=r"3 features and 3 classes do not fit labels of shape \(2,\)"
    ):
        knn_scores(f, labels[:2], 3, f)
    with pytest.raises(ValueError, match="are not of the same layer"):
        knn_scores(f, labels, 3, torch.eye(4))
    with pytest.raises(ValueError, match="labels of several want a linear probe"):
        knn_scores(f, torch.ones(3, 3).long(), 3, f)
    with pytest.raises(ValueError, match="k=0 neighbours are too few"):
        knn_scores(f, labels, 3, f, k=0)
    with pytest.raises(ValueError, match="features are not finite"):
        knn_scores(f, labels, 3, f * float("nan"))
