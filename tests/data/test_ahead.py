import itertools
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.data.ahead import ahead

pytestmark = pytest.mark.unit


@given(st.lists(st.integers()), st.integers(0, 5))
def test_the_items_in_order(items, count):
    assert list(ahead(iter(items), count)) == items


def test_no_more_than_count_are_taken_before_they_are_asked_for():
    taken = []
    stream = ahead((taken.append(k) or k for k in itertools.count()), 3)
    assert next(stream) == 0
    time.sleep(0.2)
    assert len(taken) == 4  # the one that was asked for, and three
    stream.close()


def test_the_first_comes_as_soon_as_it_is_there():
    gate = threading.Event()

    def slow():
        yield 1
        gate.wait(10)
        yield 2

    stream = ahead(slow(), 2)
    assert next(stream) == 1
    gate.set()
    assert list(stream) == [2]


@pytest.mark.parametrize("count", [0, 2])
def test_an_exception_comes_where_it_was(count):
    def broken():
        yield 1
        raise ValueError("here")

    stream = ahead(broken(), count)
    assert next(stream) == 1
    with pytest.raises(ValueError, match="here"):
        next(stream)


def test_the_thread_goes_with_its_consumer():
    before = threading.active_count()
    stream = ahead(itertools.count(), 2)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
