import math
import pickle

import pytest
import torch

from mimray.analysis.health import HealthDiagnostic, Moments, effective_rank, stable_rank
from mimray.mim.encoders import build_encoder
from mimray.mim.encoders.layers import layer_names, show_layers

pytestmark = pytest.mark.unit

torch.set_num_threads(1)

NAMES = ["vit_nano", "swin_nano", "swinv2_nano", "resnet_nano", "convnext_nano", "replknet_nano"]
FIGURES = ["effective_rank", "stable_rank", "norm", "constant_channels"]


def built(name):
    torch.manual_seed(0)
    return build_encoder(name, 96).eval()


def images(count):
    return torch.randn(count, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def seen(encoder, *batches):
    found = HealthDiagnostic(encoder)
    for batch in batches:
        found.update(batch)
    return found


def test_ranks_in_closed_form():
    assert effective_rank(7 * torch.eye(5, dtype=torch.float64)) == pytest.approx(5)
    assert stable_rank(7 * torch.eye(5, dtype=torch.float64)) == pytest.approx(5)
    two = torch.diag(torch.tensor([9.0, 1.0, 0.0], dtype=torch.float64))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)  # of singular values 3 and 1
    assert effective_rank(two) == pytest.approx(math.exp(entropy))
    assert stable_rank(two) == pytest.approx(10 / 9)
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    assert effective_rank(nothing) == stable_rank(nothing) == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_s_figures_are_those_of_its_features_at_once(name):
    encoder, pictures = built(name), images(2)
    maps = {}
    with torch.no_grad():
        show_layers(encoder, pictures, layer_names(encoder), maps.__setitem__)
    rows = seen(encoder, *pictures.split(1)).rows()
    assert [row["layer"] for row in rows] == layer_names(encoder)
    assert [row["index"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        features = maps[row["layer"]].permute(0, 2, 3, 1).flatten(0, 2).double()
        singular = torch.linalg.svdvals(features - features.mean(dim=0))
        share = singular / singular.sum()
        assert row["channels"] == features.shape[1]
        expected = torch.special.entr(share).sum().exp().item()
        assert row["effective_rank"] == pytest.approx(expected, rel=1e-4)
        stable = (singular.square().sum() / singular.max() ** 2).item()
        assert row["stable_rank"] == pytest.approx(stable, rel=1e-5)
        assert row["norm"] == pytest.approx(features.norm(dim=1).mean().item(), rel=1e-5)


def test_shards_merge_to_one_pass():
    encoder, batches = built("swin_nano"), images(7).split(2)
    whole, merged = seen(encoder, *batches), HealthDiagnostic(encoder)
    for shard in (batches[:1], batches[1:]):
        part = HealthDiagnostic(encoder)
        part.load(pickle.loads(pickle.dumps(seen(encoder, *shard).state())))
        merged.merge(part)
    for one, other in zip(whole.rows(), merged.rows(), strict=True):
        assert one["layer"] == other["layer"]
        for key in FIGURES:
            assert one[key] == pytest.approx(other[key], rel=1e-6)


def test_moments_keep_their_digits_far_from_zero():
    rows = 1000 + torch.randn(300, 4, generator=torch.Generator().manual_seed(2))
    both = Moments.of(rows[:100]) + Moments.of(rows[100:])
    exact = rows.double() - rows.double().mean(dim=0)
    assert both.count == 300
    torch.testing.assert_close(both.mean, rows.double().mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(both.scatter, exact.T @ exact, rtol=1e-9, atol=1e-9)


def test_constant_channels_are_counted_and_what_is_not_finite_is_named():
    encoder = built("convnext_nano")
    with torch.no_grad():
        encoder.norm_pre.weight[:48] = 0
    rows = seen(encoder, *images(4).split(2)).rows()
    assert [row["constant_channels"] for row in rows] == [0, 0, 0, 0, 0, 0.25]
    assert rows[-1]["effective_rank"] <= 144
    with torch.no_grad():
        encoder.norm_pre.weight[0] = torch.nan
    with pytest.raises(ValueError, match="features of last are not finite"):
        seen(encoder, images(1))


def test_sums_of_another_encoder_are_refused():
    state = seen(built("vit_nano"), images(1)).state()
    with pytest.raises(ValueError, match="layer 'block 6', which the encoder has not"):
        HealthDiagnostic(built("convnext_nano")).load(state)


def test_only_a_vit_s_figure_speaks_of_a_class_token():
    for name, told in (("vit_nano", True), ("swin_nano", False), ("resnet_nano", False)):
        assert ("class token" in HealthDiagnostic(build_encoder(name, 96)).conventions()) is told
