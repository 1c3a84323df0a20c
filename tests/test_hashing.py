import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.hashing import Purpose, key, mix, uniform

pytestmark = pytest.mark.unit

INT64 = st.integers(-(2**63), 2**63 - 1)
M = 2**64 - 1


def splitmix64(x: int) -> int:
    """Steele, Lea, Flood 2014, in Python's unbounded integers."""
    z = (x + 0x9E3779B97F4A7C15) & M
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
    return z ^ (z >> 31)


def signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def test_mix_gives_the_published_stream_of_seed_1234567():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [signed((1234567 + k * 0x9E3779B97F4A7C15) & M) for k in range(3)]
    assert mix(np.array(states)).view(np.uint64).tolist() == published


@given(INT64)
def test_mix_is_splitmix64_in_numpy_and_torch(x):
    expected = signed(splitmix64(x & M))
    assert mix(np.array([x])).tolist() == [expected]
    assert mix(torch.tensor([x])).tolist() == [expected]


@given(st.lists(INT64, min_size=1, max_size=4))
def test_key_chains_its_parts(parts):
    value = 0
    for part in parts:
        value = splitmix64(value ^ (part & M))
    assert key(*parts).tolist() == [signed(value)]


@given(st.lists(INT64, min_size=1, max_size=8), INT64)
def test_numpy_and_torch_give_the_same_bits(rows, seed):
    array, tensor = np.array(rows), torch.tensor(rows)
    assert np.array_equal(key(seed, array, 3), key(seed, tensor, 3).numpy())
    assert np.array_equal(uniform(key(seed, array)), uniform(key(seed, tensor)).numpy())


def test_key_broadcasts_its_parts():
    rows, cells = np.arange(3), np.arange(5)
    table = key(7, rows[:, None], cells[None, :])
    assert table.shape == (3, 5)
    assert table[2, 4] == key(7, 2, 4)[0]
    assert torch.equal(
        key(7, torch.arange(3)[:, None], torch.arange(5)[None]), torch.from_numpy(table)
    )


def test_key_depends_on_the_place_of_a_part():
    assert key(1, 2)[0] != key(2, 1)[0]


def test_purposes_share_no_values():
    rows = np.arange(1000)
    values = np.concatenate([key(purpose, 0, rows) for purpose in Purpose])
    assert len(np.unique(values)) == len(values)


def test_no_two_integers_collide():
    assert len(np.unique(mix(np.arange(-50_000, 50_000)))) == 100_000


@given(st.lists(INT64, min_size=1))
def test_uniform_lies_in_the_half_open_unit_interval(values):
    drawn = uniform(np.array(values))
    assert drawn.dtype == np.float64
    assert (drawn >= 0).all() and (drawn < 1).all()


def test_uniform_at_its_ends():
    assert uniform(np.array([0, -1, -(2**63)])).tolist() == [0.0, 1 - 2.0**-53, 0.5]


def test_uniform_is_uniform():
    drawn = uniform(key(3, np.arange(100_000)))
    assert abs(drawn.mean() - 0.5) < 4 * (1 / 12) ** 0.5 / 100_000**0.5
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    chi2 = ((counts - 5000) ** 2 / 5000).sum()
    assert chi2 < 50  # 19 degrees of freedom: once in 10,000
