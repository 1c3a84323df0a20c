import math
import pickle

import pytest
import torch

from mimray.analysis.receptive_field import ReceptiveFieldDiagnostic, extent
from mimray.mim.encoders import build_encoder

pytestmark = pytest.mark.unit

torch.set_num_threads(1)

STAGE_ENDS = {
    "vit_nano": ["block 2", "block 4", "block 6", "block 8"],
    "swin_nano": ["block 1", "block 2", "block 6"],
    "swinv2_nano": ["block 1", "block 2", "block 6"],
    "resnet_nano": ["block 2", "block 4", "block 6"],
    "convnext_nano": ["block 1", "block 2", "block 4", "block 5"],
    "replknet_nano": ["block 2", "block 4", "block 8"],
}


def built(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, 96).eval()
    with torch.no_grad():  # norms that start at 0 would hide what a layer looks at
        for parameter in encoder.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return encoder


def images(count=2, width=96):
    return torch.randn(count, 3, 96, width, generator=torch.Generator().manual_seed(1))


def seen(encoder, *batches):
    found = ReceptiveFieldDiagnostic(encoder)
    for batch in batches:
        found.update(batch)
    return found


@pytest.mark.parametrize("name", STAGE_ENDS)
def test_every_stage_has_a_map_and_the_parameters_are_left_alone(name):
    encoder = built(name)
    pictures = images()
    with torch.no_grad():  # as its caller may have it
        found = seen(encoder, pictures)
    maps = found.map()
    assert list(maps) == STAGE_ENDS[name]
    for shares in maps.values():
        assert shares.shape == (96, 96) and shares.dtype == torch.float64
        assert shares.min() >= 0 and shares.sum().item() == pytest.approx(1)
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())
    assert not pictures.requires_grad
    assert not any(module._forward_hooks for module in encoder.modules())
    rows = found.rows()
    assert [row["layer"] for row in rows] == STAGE_ENDS[name]
    assert [f"block {row['index']}" for row in rows] == STAGE_ENDS[name]
    assert all(row["side_20_px"] <= row["side_50_px"] <= row["side_99_px"] for row in rows)


@pytest.mark.parametrize("name", ["vit_nano", "convnext_nano"])
def test_the_map_is_the_gradient_of_the_central_position(name):
    encoder = built(name)
    pictures = images().requires_grad_()
    features = encoder(pictures)[1]
    row, column = (side // 2 for side in features.shape[-2:])
    features[:, :, row, column].clamp(min=0).sum().backward()
    expected = pictures.grad.abs().sum(dim=(0, 1)).double()
    found = seen(encoder, pictures).map()[STAGE_ENDS[name][1]]
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-4, atol=1e-9)


def test_what_a_layer_cannot_see_has_no_share():
    # ConvNeXt's first stage is 7 x 7 positions of 4 pixels, Swin's a window of 6 x 6.
    for name, first, last in (("convnext_nano", 36, 63), ("swin_nano", 48, 71)):
        shares = seen(built(name), images()).map()["block 1"]
        answered = shares.nonzero()
        assert answered.min() == first and answered.max() == last
        assert len(answered) == (last - first + 1) ** 2
    rows = seen(built("convnext_nano"), images()).rows()
    assert rows[0]["side_99_px"] <= 28 and rows[0]["area_99"] <= (28 / 96) ** 2
    assert (seen(built("vit_nano"), images()).map()["block 2"] > 0).all()


def test_pictures_that_are_not_square():
    encoder = built("resnet_nano")
    found = seen(encoder, images(1, 160))
    shares = found.map()["block 2"]
    middle = shares.nonzero().double().add(0.5).mean(dim=0)
    assert middle.tolist() == [48.5, 80.5]  # of position (12, 20), which is about pixel (48, 80)
    rows = found.rows()
    assert [row["centre_row_px"] for row in rows] == [48.5] * 3
    assert [row["centre_column_px"] for row in rows] == [80.5] * 3
    assert all(row["side_50_px"] % 2 == 1 for row in rows)  # about the middle of a pixel
    rows = seen(built("swin_nano"), images(1)).rows()
    assert [row["centre_row_px"] for row in rows] == [50, 52, 56]  # of cells of 4, 8 and 16 pixels
    assert all(row["side_50_px"] % 2 == 0 for row in rows)
    with pytest.raises(ValueError, match=r"images of \(96, 96\) after others of \(96, 160\)"):
        found.update(images(1))


def test_shards_merge_to_one_pass():
    encoder, batches = built("swinv2_nano"), images(5).split(2)
    whole, merged = seen(encoder, *batches), ReceptiveFieldDiagnostic(encoder)
    for shard in (batches[:1], batches[1:]):
        part = ReceptiveFieldDiagnostic(encoder)
        part.load(pickle.loads(pickle.dumps(seen(encoder, *shard).state())))
        merged.merge(part)
    assert merged.conventions() == whole.conventions()
    for name, shares in whole.map().items():
        torch.testing.assert_close(merged.map()[name], shares, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="layer 'block 1', which is not one of"):
        seen(built("vit_nano")).load(whole.state())


def test_extents_in_closed_form():
    point = torch.zeros(20, 20, dtype=torch.float64)
    point[10, 10] = 1
    assert extent(point, (10.5, 10.5)) == {
        "radius_px": 0,
        **{f"side_{n}_px": 1 for n in (20, 30, 50, 99)},
        **{f"area_{n}": 1 / 400 for n in (20, 30, 50, 99)},
    }
    # Of 20 x 20 equal pixels squares of 10, 12, 16 and 20 are the first to hold enough.
    even = torch.full((20, 20), 1 / 400, dtype=torch.float64)
    found = extent(even, (10, 10))
    assert [found[f"side_{n}_px"] for n in (20, 30, 50, 99)] == [10, 12, 16, 20]
    assert [found[f"area_{n}"] for n in (20, 30, 50, 99)] == [0.25, 0.36, 0.64, 1]
    assert found["radius_px"] == pytest.approx((200 / torch.pi) ** 0.5, abs=0.3)
    ring = torch.zeros(20, 20, dtype=torch.float64)
    ring[10, 4], ring[10, 16] = 0.4, 0.6
    assert extent(ring, (10.5, 10.5))["radius_px"] == 6
    assert extent(ring, (10.5, 4.5))["radius_px"] == 12


def test_what_has_no_map_has_no_extent():
    encoder = built("convnext_nano")
    with torch.no_grad():  # no feature of the first stage is above 0
        encoder.stem[1].weight.zero_()
        encoder.stem[1].bias.fill_(-1)
        encoder.stages[0].blocks[0].mlp.fc2.weight.zero_()
        encoder.stages[0].blocks[0].mlp.fc2.bias.zero_()
    row = seen(encoder, images(1)).rows()[0]
    assert all(math.isnan(row[key]) for key in ("radius_px", "side_20_px", "area_99"))
    with torch.no_grad():
        encoder.stem[1].bias.fill_(math.nan)
    with pytest.raises(ValueError, match=r"gradients of block 1 are not finite"):
        seen(encoder, images(1))


def test_no_more_than_four_pictures_hold_their_graph_at_once():
    encoder, pictures = built("convnext_nano"), images(10)
    counts = []
    hook = encoder.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    whole = seen(encoder, pictures)
    hook.remove()
    assert counts == [4, 4, 2] and whole.images == 10
    for name, shares in seen(encoder, *pictures.split(1)).map().items():
        torch.testing.assert_close(whole.map()[name], shares, rtol=1e-5, atol=1e-12)
