import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimray.analysis.cka import CkaDiagnostic, cka, cka_matrix
from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.layers import LAST, layer_names, show_layers

pytestmark = pytest.mark.unit

torch.set_num_threads(1)

ATTENTION = ["vit_nano", "swin_nano", "swinv2_nano"]
ESTIMATORS = ["unbiased", "biased"]


def built(name, seed=0, size=48):
    torch.manual_seed(seed)
    encoder = build_encoder(name, size).eval()
    with torch.no_grad():  # fresh layers are all but alike
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return encoder


def images(count, size=48):
    """Of few cells: pictures of noise are all as far from one another."""
    cells = torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    return cells.repeat_interleave(size // 2, 2).repeat_interleave(size // 2, 3)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def features(encoder, pictures):
    found = {}
    with torch.no_grad():
        show_layers(encoder, pictures, layer_names(encoder), found.__setitem__)
    return list(found.values())


def textbook(x, y, estimator):
    """HSIC as the papers write it, with n x n matrices, in float64."""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    k, l, n = x @ x.T, y @ y.T, len(x)  # noqa: E741
    one = torch.ones(n, 1, dtype=torch.float64)
    if estimator == "biased":
        h = torch.eye(n, dtype=torch.float64) - 1 / n
        return torch.trace(k @ h @ l @ h) / (n - 1) ** 2
    k, l = k.fill_diagonal_(0), l.fill_diagonal_(0)  # noqa: E741
    middle = (one.T @ k @ one) * (one.T @ l @ one) / ((n - 1) * (n - 2))
    last = one.T @ k @ l @ one * 2 / (n - 2)
    return (torch.trace(k @ l) + middle - last).squeeze() / (n * (n - 3))


def double_loop(batches, others, estimator):
    """CKA of lists of features, batch by batch: HSICs are averaged and then normalised."""
    result = torch.zeros(len(batches[0]), len(others[0]), dtype=torch.float64)
    for i in range(len(batches[0])):
        for j in range(len(others[0])):
            pairs = [(mine[i], theirs[j]) for mine, theirs in zip(batches, others, strict=True)]
            cross = sum(textbook(x, y, estimator) for x, y in pairs)
            own = sum(textbook(x, x, estimator) for x, _ in pairs)
            other = sum(textbook(y, y, estimator) for _, y in pairs)
            result[i, j] = cross / (own * other).sqrt()
    return result


@pytest.mark.parametrize("name", ATTENTION)
def test_a_representation_and_its_rotation_are_one_and_an_independent_one_is_none(name):
    for layer in features(built(name), images(40)):
        x = layer.mean(dim=(2, 3))
        q, _ = torch.linalg.qr(normal(x.shape[1], x.shape[1], seed=2))
        independent = normal(40, 400, seed=3)
        for estimator in ESTIMATORS:
            assert cka(x, 3 * x @ q + 5, estimator) == pytest.approx(1, abs=1e-5)
        assert abs(cka(x, independent)) < 0.1
        assert cka(x, independent, "biased") > 0.15


def test_closed_forms():
    x = torch.tensor([1.0, -1, 0, 0, 0])[:, None]
    y = torch.tensor([0.0, 0, 1, -1, 0])[:, None]
    # Of x's Gram matrix one pair is left, -1; of its products nothing, of its sums 4 / (4 * 3).
    assert cka(x, y) == pytest.approx((1 / 3) / 1, abs=1e-12)
    assert cka(x, y, "biased") == 0
    # With one feature each it is the squared correlation.
    a, b = normal(2, 20, 1)
    correlation = torch.corrcoef(torch.cat([a, b], dim=1).T)[0, 1].item()
    assert cka(a, b, "biased") == pytest.approx(correlation**2, abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", ATTENTION)
def test_all_layers_are_what_the_double_loop_gives(name, estimator):
    encoder, batches = built(name), images(12).split(6)
    found = CkaDiagnostic(encoder, estimator=estimator)
    for batch in batches:
        found.update(batch)
    layers = [features(encoder, batch) for batch in batches]
    expected = double_loop(layers, layers, estimator)
    torch.testing.assert_close(found.matrix(), expected, rtol=0, atol=1e-5)
    assert expected.min() < 0.999  # so that it says something


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_and_columns_come_in_pieces(estimator):
    xs = [normal(130, 3100, seed=n) for n in range(2)]
    ys = [xs[0] + normal(130, 3100, seed=4), xs[1][:, :7]]
    expected = double_loop([xs], [ys], estimator)
    torch.testing.assert_close(cka_matrix(xs, ys, estimator), expected, rtol=0, atol=1e-6)


def test_two_kinds_of_encoder():
    encoder, other = built("vit_nano", size=64), built("convnext_nano", size=64)
    found = CkaDiagnostic(encoder, other)
    batches = images(15, 64).split(8)  # the smaller batch counts as its pictures
    for batch in batches:
        found.update(batch)
    expected = torch.zeros(9, 6, dtype=torch.float64)
    own, others = torch.zeros(9, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for batch in batches:
        mine, theirs = (
            [layer.flatten(1) for layer in features(one, batch)] for one in (encoder, other)
        )
        for i, x in enumerate(mine):
            own[i] += len(batch) * textbook(x, x, "unbiased")
            expected[i] += len(batch) * torch.stack([textbook(x, y, "unbiased") for y in theirs])
        others += len(batch) * torch.stack([textbook(y, y, "unbiased") for y in theirs])
    expected /= (own[:, None] * others).sqrt()
    torch.testing.assert_close(found.matrix(), expected, rtol=0, atol=1e-5)
    rows = found.rows()
    assert len(rows) == 9 * 6
    assert rows[7] == {
        "layer": "block 2",
        "index": 2,
        "stage": 1,
        "other": "block 2",
        "other_index": 2,
        "other_stage": 2,
        "cka": pytest.approx(expected[1, 1].item(), abs=1e-5),
    }
    assert rows[-1]["layer"] == rows[-1]["other"] == LAST
    assert found.conventions() == {
        "CKA": "linear, unbiased HSIC of batches of 8",
        "features": "all positions, flattened",
        "class token": "dropped",
        "images": "15",
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_shards_of_whole_batches_merge_to_one_pass(estimator):
    encoder, other = built("swin_nano"), built("swin_nano", seed=5)
    batches = images(21).split(6)
    whole = CkaDiagnostic(encoder, other, estimator)
    for batch in batches[:3]:
        whole.update(batch)
    merged = CkaDiagnostic(encoder, other, estimator)
    for shard in (batches[:1], batches[1:3]):
        part = CkaDiagnostic(encoder, other, estimator)
        for batch in shard:
            part.update(batch)
        copy = CkaDiagnostic(encoder, other, estimator)
        copy.load(pickle.loads(pickle.dumps(part.state())))
        merged.merge(copy)
    torch.testing.assert_close(merged.matrix(), whole.matrix(), rtol=0, atol=1e-9)
    assert merged.conventions() == whole.conventions()
    assert merged.state()["images"] == 18
    with pytest.raises(ValueError, match="CKA of 3 images; the smallest batch is 4"):
        merged.update(batches[3])
    torch.testing.assert_close(merged.matrix(), whole.matrix(), rtol=0, atol=1e-9)


def test_a_mean_that_all_pictures_share_costs_no_digits():
    x, y = normal(16, 500), normal(16, 500) + 0.5 * normal(16, 500, seed=1)
    far = 300 * normal(500, seed=2).sign()
    for estimator in ESTIMATORS:
        assert cka(x + far, y + far, estimator) == pytest.approx(cka(x, y, estimator), abs=1e-5)


@given(st.integers(0, 2**31), st.integers(4, 40), st.integers(1, 50), st.sampled_from(ESTIMATORS))
def test_it_is_symmetric_has_no_scale_and_is_at_most_one(seed, n, d, estimator):
    x, y = normal(n, d, seed=seed), normal(n, 3, seed=seed + 1)
    found = cka(x, y, estimator)
    assert abs(found) <= 1 + 1e-9
    assert cka(y, x, estimator) == pytest.approx(found, abs=1e-9)
    assert cka(4 * x, y / 2, estimator) == pytest.approx(found, abs=1e-6)


def test_what_cannot_be_compared_is_refused():
    x = normal(8, 3)
    assert math.isnan(cka(x, torch.ones(8, 2)))
    with pytest.raises(ValueError, match="CKA of 3 images; the smallest batch is 4"):
        cka(x[:3], x[:3])
    with pytest.raises(ValueError, match="of the same pictures"):
        cka(x, x[:7])
    with pytest.raises(ValueError, match="estimator 'debiased' is not known"):
        cka(x, x, "debiased")
    with pytest.raises(ValueError, match="are not finite"):
        cka(x, x / 0)
    encoder = built("convnext_nano", size=64)
    with pytest.raises(ValueError, match="estimator 'none' is not known"):
        CkaDiagnostic(encoder, estimator="none")
    with pytest.raises(ValueError, match="sums are of estimator biased, not unbiased"):
        CkaDiagnostic(encoder).load(CkaDiagnostic(encoder, estimator="biased").state())


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n", [7, 10, 63])
def test_what_is_the_same_for_all_pictures_is_like_nothing(n, estimator):
    x = normal(n, 3000)
    for scale in (1e-3, 1.0, 1e4):
        constant = scale * normal(1, 3000, seed=1).repeat(n, 1)
        assert math.isnan(cka(x, constant, estimator))
        assert math.isnan(cka(constant, constant, estimator))
        apart = constant + 1e-3 * scale * x  # little, and far more than rounding
        assert cka(x, apart, estimator) == pytest.approx(1, abs=1e-4)


def test_only_a_vit_s_figure_speaks_of_a_class_token():
    vit, swin = built("vit_nano"), built("swin_nano")
    assert "class token" not in CkaDiagnostic(swin).conventions()
    assert CkaDiagnostic(swin, vit).conventions()["class token"] == "dropped"
