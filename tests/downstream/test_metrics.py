import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.downstream.metrics import (
    average_precision,
    mean_average_precision,
    mean_per_class,
    top1,
)

pytestmark = pytest.mark.unit


def one_hot(predictions, classes):
    return torch.nn.functional.one_hot(torch.tensor(predictions), classes).float()


def test_top1_and_mean_per_class_of_classes_of_different_size():
    scores = one_hot([0, 0, 0, 1, 2, 0], 4)
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    assert top1(scores, labels) == pytest.approx(4 / 6)
    assert mean_per_class(scores, labels) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_the_first_of_equal_scores_is_the_prediction():
    assert top1(torch.ones(2, 3), torch.tensor([0, 1])) == 0.5


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        ([1, 1, -1, -1], 1.0),
        ([-1, 1], 0.5),
        # precisions 1/1 up to recall 1/2, then 2/3: 6 recalls (0 to 0.5) at 1, 5 at 2/3.
        ([1, -1, 1, -1], (6 + 5 * 2 / 3) / 11),
        # A difficult one between them counts for nothing.
        ([1, 0, -1, 0, 1, -1], (6 + 5 * 2 / 3) / 11),
        # Of ten positives the ninth stands at a recall of 0.9 exactly: it counts there.
        ([1] * 9 + [-1] * 21 + [1], (10 * 1.0 + 10 / 31) / 11),
    ],
)
def test_average_precision_of_eleven_points(ranked, expected):
    scores = -torch.arange(len(ranked)).float()
    assert average_precision(scores, torch.tensor(ranked)) == pytest.approx(expected)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=30), st.integers(0, 99))
def test_average_precision_is_its_definition(labels, seed):
    labels = torch.tensor([1, *labels])
    scores = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
    ranked = [v for v in labels[scores.argsort(descending=True)].tolist() if v]
    positives = ranked.count(1)
    curve = []
    for end in range(1, len(ranked) + 1):
        found = ranked[:end].count(1)
        curve.append((found, found / end))
    points = [max((p for f, p in curve if 10 * f >= t * positives), default=0) for t in range(11)]
    assert average_precision(scores, labels) == pytest.approx(sum(points) / 11)


def test_the_mean_runs_over_the_classes_with_a_positive():
    labels = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 0]])
    scores = torch.tensor([[3.0, 2.0, 0.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert mean_average_precision(scores, labels) == pytest.approx((1.0 + 0.5) / 2)
    with pytest.raises(ValueError, match="no label is positive"):
        mean_average_precision(scores, -torch.ones(3, 3))


@pytest.mark.parametrize("labels", [torch.zeros(3).long(), torch.zeros(0).long()])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match="do not fit scores of"):
        top1(torch.zeros(2 if len(labels) else 0, 5), labels)
