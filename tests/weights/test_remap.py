import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from mimray.weights.remap import resize_embedding, resize_table, source_positions

pytestmark = pytest.mark.unit

SIDES = st.integers(1, 9)
SIZES = st.tuples(SIDES, SIDES)


def table_of(function, window, heads=1):
    """A table whose entries are a function of the offsets (rows, columns)."""
    rows, columns = (torch.arange(1.0 - side, side) for side in window)
    values = function(rows[:, None], columns[None, :]).expand(len(rows), len(columns))
    return values.reshape(-1, 1).repeat(1, heads)


def random_table(window, heads=2, extra=0, seed=0):
    entries = (2 * window[0] - 1) * (2 * window[1] - 1) + extra
    return torch.randn(entries, heads, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("source", "target", "ratio"), [(6, 7, 1.091281), (12, 14, 1.032893), (7, 14, 1.307619)]
)
def test_distances_grow_by_the_ratio_that_is_known(source, target, ratio):
    positions = source_positions(source, target)
    steps = np.diff(positions[source - 1 :])
    np.testing.assert_allclose(steps[1:] / steps[:-1], ratio, rtol=1e-5)
    assert positions[source - 1] == 0 and steps[0] == 1
    assert positions[-1] == pytest.approx(target - 1, abs=1e-3)
    np.testing.assert_array_equal(positions, -positions[::-1])


def test_a_smaller_window_is_cut_out():
    positions = source_positions(7, 6)
    np.testing.assert_allclose(np.diff(positions[6:]), 1.01 ** np.arange(6), rtol=1e-5)


@given(SIZES, SIZES, st.integers(0, 3))
def test_a_constant_stays_and_the_class_token_s_rows_too(source, target, extra):
    given = torch.cat([table_of(lambda y, x: 0 * y * x + 2.5, source, 3), torch.randn(extra, 3)])
    resized = resize_table(given, source, target)
    entries = (2 * target[0] - 1) * (2 * target[1] - 1)
    assert resized.shape == (entries + extra, 3)
    torch.testing.assert_close(resized[:entries], torch.full((entries, 3), 2.5))
    assert torch.equal(resized[entries:], given[len(given) - extra :])


@given(SIZES, st.integers(0, 3))
def test_the_same_window_changes_nothing(window, extra):
    given = random_table(window, extra=extra)
    torch.testing.assert_close(resize_table(given, window, window), given, atol=1e-7, rtol=0)


@given(SIZES, SIZES)
def test_axes_are_treated_alike(source, target):
    """Turning the window over its diagonal turns the table."""

    def turned(table, window):
        return table.unflatten(0, [2 * n - 1 for n in window]).transpose(0, 1).flatten(0, 1)

    given = random_table(source)
    one = turned(resize_table(given, source, target), target)
    other = resize_table(turned(given, source), source[::-1], target[::-1])
    torch.testing.assert_close(one, other)


def test_a_cubic_of_the_offset_in_each_axis_is_met_exactly():
    """Where the source's positions are the whole numbers' neighbours, and within them."""
    source, target = (6, 7), (7, 9)

    def cubic(y, x):
        return (0.02 * y**3 - 0.1 * y + 1) * (0.03 * x**3 + 0.2 * x**2 - 2)

    rows, columns = (
        torch.from_numpy(source_positions(s, t)) for s, t in zip(source, target, strict=True)
    )
    given = cubic(rows[:, None], columns[None, :]).reshape(-1, 1)
    resized = resize_table(given, source, target).unflatten(0, (13, 17))[..., 0]
    y, x = torch.arange(-6.0, 7).double()[:, None], torch.arange(-8.0, 9).double()[None, :]
    inside = (y.abs() <= rows[-1]) & (x.abs() <= columns[-1])
    assert inside.sum() > 100
    torch.testing.assert_close(resized[inside], cubic(y, x)[inside], atol=1e-9, rtol=0)


def test_beyond_the_outermost_position_its_value_holds():
    """A window of 3 reaches to 1 + 1.5 at most."""
    given = table_of(lambda y, x: x + 0 * y, (3, 3))
    row = resize_table(given, (3, 3), (7, 7)).view(13, 13)[6]
    assert row[:4].unique().tolist() == [-2.0] and row[9:].unique().tolist() == [2.0]
    assert (row[4:9].diff() > 0).all()


@pytest.mark.parametrize("knots", [4, 5, 6, 11])
def test_the_spline_is_scipy_s(knots):
    interpolate = pytest.importorskip("scipy.interpolate")
    from mimray.weights.remap import _spline

    x = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, knots))
    at = np.random.default_rng(1).uniform(x[0], x[-1], 50)
    values = np.random.default_rng(2).normal(size=knots)
    expected = interpolate.make_interp_spline(x, values, k=3)(at)
    np.testing.assert_allclose(_spline(x, at) @ values, expected, atol=1e-10)


def test_the_type_of_a_table_stays():
    half = random_table((3, 3)).half()
    assert resize_table(half, (3, 3), (4, 4)).dtype == torch.float16


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize(("source", "target"), [((4, 4), (6, 6)), ((3, 5), (6, 4))])
def test_embeddings_are_resized_as_pictures(source, target, extra):
    embedding = torch.randn(1, extra + source[0] * source[1], 8)
    resized = resize_embedding(embedding, source, target)
    assert resized.shape == (1, extra + target[0] * target[1], 8)
    assert torch.equal(resized[:, :extra], embedding[:, :extra])
    picture = embedding[0, extra:].T.view(1, 8, *source)
    expected = interpolate(picture, target, mode="bicubic", align_corners=False)
    torch.testing.assert_close(resized[0, extra:].T.view(1, 8, *target), expected)
