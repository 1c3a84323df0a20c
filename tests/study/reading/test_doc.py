"""What docs/scaling.md says of the published runs is what is found in them."""

import re
from pathlib import Path

import pytest

from mimray.study.reading.correlation import correlations
from mimray.study.reading.findings import analyse
from mimray.study.reading.sentences import sentences
from tests.study.reading.tables import PUBLISHED

pytestmark = pytest.mark.unit

DOC = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text()


def rounded(value, bounds):
    return f"{value:.3f} ({bounds[0]:.2f} to {bounds[1]:.2f})"


def test_the_intervals_of_the_doc_are_the_printed_ones():
    kinds = correlations(PUBLISHED)["top1"]
    for name in ("pearson", "spearman"):
        (row,) = re.findall(rf"^\| {name.capitalize()} \| (.+) \|$", DOC, re.MULTILINE)
        assert row.split(" | ") == [
            rounded(getattr(one, name), getattr(one, f"{name}_interval")) for one in kinds.values()
        ]


def test_the_doc_s_sample_is_what_is_said():
    (block,) = re.findall(r"Of the published runs it says.*?```\n(.*?)```", DOC, re.DOTALL)
    shown = [" ".join(sentence.split()) for sentence in block.removeprefix("- ").split("\n- ")]
    said = sentences(analyse(PUBLISHED))
    assert shown == [sentence for sentence in said if sentence in shown]
