import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.durations import Clock, check_duration, check_length

pytestmark = pytest.mark.unit

CLOCK = Clock(steps_per_epoch=625, batch=2048, total=62500)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("100ep", 62500),
        ("0.5ep", 312),  # 312.5: to the even neighbour
        ("125000it", 125000),
        ("1.28e8img", 62500),
        ("2048img", 1),
        ("10%", 6250),
        ("0.1%", 62),
        ("87.5%", 54688),
        (" 3 it ", 3),
        ("1e3it", 1000),
        ("1E+3it", 1000),
        ("2.6it", 3),
    ],
)
def test_every_unit_resolves_to_the_nearest_step(text, steps):
    assert CLOCK.steps(text) == steps


@pytest.mark.parametrize("text", ["0it", "0ep", "0%", "1img", "0.001ep"])
def test_a_duration_is_at_least_one_step(text):
    assert CLOCK.steps(text) == 1


BAD = ["", "100", "ep", "100 epochs", "-1ep", "1e5", "1,5ep", "100ep10it", "nanep", "infit", "½ep"]


@pytest.mark.parametrize("bad", [*BAD, 100, 1.5, None, True, ["1ep"], "1e999it"])
def test_what_is_no_duration_is_refused_with_the_way_to_write_it(bad):
    with pytest.raises(ValueError, match="is not a duration; write it like 100ep"):
        check_duration(bad)
    with pytest.raises(ValueError, match="is not a duration"):
        CLOCK.steps(bad)


def test_check_duration_strips():
    assert check_duration(" 10% ") == "10%"


def test_a_share_needs_a_total():
    with pytest.raises(ValueError, match="share of itself"):
        Clock(625, 2048).steps("10%")


def test_a_length_is_no_share():
    assert check_length("1ep") == "1ep"
    with pytest.raises(ValueError, match="share of itself"):
        check_length("10%")


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(1, 10**4))
def test_units_agree_on_whole_epochs(epochs, per_epoch, batch):
    clock = Clock(per_epoch, batch)
    steps = epochs * per_epoch
    assert clock.steps(f"{epochs}ep") == clock.steps(f"{steps}it") == steps
    assert clock.steps(f"{steps * batch}img") == steps


@given(st.integers(1, 10**7), st.floats(0, 100))
def test_a_share_never_passes_the_total(total, percent):
    assert 1 <= Clock(10, 10, total).steps(f"{percent:.6f}%") <= total
