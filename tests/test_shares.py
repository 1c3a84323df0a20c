"""Shares as people write them."""

import math

import pytest

from mimray.shares import of_labels, share

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "number"), [("10%", 0.1), ("0.1", 0.1), ("100%", 1.0), ("2.5 %", 0.025)]
)
def test_a_share_is_a_number(text, number):
    assert share(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "%", "ten", "10%%", "a/path.parquet"])
def test_other_words_are_none(text):
    assert math.isnan(share(text))


def test_scores_with_fewer_labels_have_names_of_their_own():
    ends = [of_labels(text) for text in (None, "100%", "10%", "0.01")]
    assert ends == ["", "", "_labels_0.1", "_labels_0.01"]
