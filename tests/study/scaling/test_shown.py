"""The table of a study's cells on a screen."""

import pytest

from mimray.verbs.study.shown import _fitting

pytestmark = pytest.mark.unit


def rows(**counts):
    return [
        {"status": status.replace("_", " "), "number": n}
        for status, count in counts.items()
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("most", "left"),
    [
        (10, {"finished": 3, "running": 2, "failed": 1, "waiting": 3, "left_out": 1}),
        (9, {"finished": 3, "running": 2, "failed": 1, "waiting": 3}),
        (7, {"finished": 3, "running": 2, "failed": 1, "waiting": 1}),
        (4, {"finished": 1, "running": 2, "failed": 1}),
        (1, {"running": 2, "failed": 1}),
    ],
)
def test_what_runs_or_has_failed_stays_on_a_small_screen(most, left):
    every = rows(finished=3, running=2, failed=1, waiting=3, left_out=1)
    assert _fitting(every, most) == rows(**left)
