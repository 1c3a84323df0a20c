import pytest

from mimray.weights import LoadReport

pytestmark = pytest.mark.unit


def test_a_summary_has_a_line_for_every_reason_and_few_names():
    report = LoadReport(
        matched=("a", "b"),
        resized={f"table.{n}": "window 6 x 6 -> 7 x 7" for n in range(5)},
        dropped={"index": "rebuilt by the model", "head": "the model has no head"},
        missing={},
    )
    assert str(report).splitlines() == [
        "2 matched, 5 resized, 2 dropped, 0 missing",
        "  resized: table.0, table.1, table.2 and 2 more: window 6 x 6 -> 7 x 7",
        "  dropped: index: rebuilt by the model",
        "  dropped: head: the model has no head",
    ]
