"""The plain lines of a log."""

import io
from itertools import pairwise

import pytest

from mimray.train import console
from tests.train.test_driver import ROW

pytestmark = pytest.mark.unit


def shown(monkeypatch, steps: int, seconds: float) -> list[float]:
    """When the lines of a run are written, in seconds from its start; `seconds`: of a step."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: 1000 + now[0])
    out = io.StringIO()
    lines, times, length = console.Console(out), [], 0
    for step in range(1, steps + 1):
        now[0] += seconds
        lines.row(ROW | {"step": step}, steps)
        if out.tell() > length:
            times.append(now[0])
            length = out.tell()
    return times


def test_a_line_every_five_seconds_at_first(monkeypatch):
    assert shown(monkeypatch, 21, 1.0) == [1, 6, 11, 16, 21]


def test_a_log_of_days_stays_readable(monkeypatch):
    """A fiftieth of the time that has passed, to a step."""
    times = shown(monkeypatch, 10 * 24 * 360, 10.0)
    assert len(times) < 500
    for earlier, later in pairwise(times[:-1]):
        assert later == 10 or max(10, later / 50) <= later - earlier < max(10, later / 50) + 10
