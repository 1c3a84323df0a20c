import pytest
import torch

from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.mim.heads import HeadShape, build_head
from mimray.optim import parameter_count
from mimray.recipe import Head

pytestmark = pytest.mark.unit

NANO = ["swin_nano", "swinv2_nano", "vit_nano"]


def on_meta(name, image_size, window=None):
    with torch.device("meta"):
        return build_encoder(name, image_size, window, 0.1)


@pytest.fixture(scope="module", params=NANO)
def nano(request):
    torch.manual_seed(0)
    return build_encoder(request.param, 96, None, 0.0).eval()


@pytest.fixture
def batch(nano):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 96, 96, generator=generator)
    side = 96 // nano.patch
    return images, torch.rand(2, side, side, generator=generator) < 0.6


def backbone(name, image_size, window=None):
    encoder = on_meta(name, image_size, window)
    return parameter_count(encoder.parameters()) - encoder.mask_token.numel()


def test_the_papers_swin_base_with_its_head_has_89_874_104_parameters():
    encoder = on_meta("swin_base", 192, 6)
    with torch.device("meta"):
        head = build_head(HeadShape(encoder.channels, (6, 6), 3, encoder.stride), Head())
    assert parameter_count(encoder.parameters()) + parameter_count(head.parameters()) == 89_874_104


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("swinv2_small", 48_959_418),
        ("swinv2_base", 86_893_816),
        ("swinv2_large", 195_202_932),
    ],
)
def test_swinv2_backbones_at_192_px_and_window_12_have_the_papers_sizes(name, count):
    assert backbone(name, 192, 12) == backbone(name, 192) == count


def test_the_papers_vit_base_has_85_665_360_parameters():
    encoder = on_meta("vit_base", 224)
    assert backbone("vit_base", 224) == 85_665_360
    assert encoder.mask_token.numel() == 768
    head = build_head(HeadShape(encoder.channels, (14, 14), 3, encoder.stride), Head())
    assert parameter_count(head.parameters()) == 590_592


@pytest.mark.parametrize("name", ENCODERS)
def test_features_lie_on_the_grid_that_the_specification_promises(name):
    spec = ENCODERS[name]
    size = 96 if 96 % spec.stride == 0 else 7 * spec.stride
    encoder = on_meta(name, size)
    assert (encoder.patch, encoder.stride) == (spec.patch, spec.stride)
    side = size // spec.patch
    images = torch.empty(2, 3, size, size, device="meta")
    features = encoder(images, torch.empty(2, side, side, device="meta", dtype=torch.bool))
    shapes = [
        (2, width, size // stride, size // stride)
        for width, stride in zip(encoder.widths, encoder.strides, strict=True)
    ]
    assert [tuple(f.shape) for f in features] == shapes


def test_what_lies_under_the_mask_does_not_reach_the_features(nano, batch):
    images, hidden = batch
    pixels = hidden.repeat_interleave(nano.patch, 1).repeat_interleave(nano.patch, 2)
    other = torch.where(pixels[:, None], torch.randn_like(images), images)
    assert not torch.equal(images, other)
    with torch.no_grad():
        assert torch.equal(nano(images, hidden)[-1], nano(other, hidden)[-1])


def test_what_is_visible_reaches_the_features(nano, batch):
    images, hidden = batch
    row, column = (~hidden[0]).nonzero()[0].tolist()
    other = images.clone()
    other[0, :, row * nano.patch, column * nano.patch] += 1.0
    with torch.no_grad():
        before, after = nano(images, hidden)[-1], nano(other, hidden)[-1]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_the_mask_enters_where_it_says(nano, batch):
    """Hiding another patch changes the features; only the mask token learns about hidden ones."""
    images, hidden = batch
    moved = hidden.flip(2)
    with torch.no_grad():
        assert not torch.equal(nano(images, hidden)[-1], nano(images, moved)[-1])
    everything = torch.ones_like(hidden)
    nano.zero_grad(set_to_none=True)
    nano(images, everything)[-1].square().sum().backward()
    assert nano.mask_token.grad.abs().sum() > 0
    assert nano.patch_embed.proj.weight.grad.abs().sum() == 0


def test_a_hidden_patch_and_a_visible_one_with_the_token_s_value_are_the_same(nano, batch):
    images, hidden = batch
    images = torch.full_like(images, 0.3)
    with torch.no_grad():
        token = nano.patch_embed(images).flatten(1, -2)[0, 0]
        keep, nano.mask_token.data = nano.mask_token.data, token.view_as(nano.mask_token)
        same = torch.allclose(nano(images, hidden)[-1], nano(images, ~hidden)[-1], atol=1e-5)
        nano.mask_token.data = keep
    assert same


def test_an_unknown_encoder_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="encoder 'swin_bse' is not known; did you mean swin_base"):
        build_encoder("swin_bse", 96, None, 0.0)


@pytest.mark.parametrize("family", ["swin", "swinv2", "vit"])
def test_features_are_those_of_the_official_code(official, family):
    model, arrays = official(family)
    with torch.no_grad():
        got = model.encoder(torch.tensor(arrays["x"]), torch.tensor(arrays["mask"]).bool())[-1]
    tolerance = {"swin": 2e-5, "swinv2": 1e-4, "vit": 1e-5}[family]
    assert (got - torch.tensor(arrays["features/encoder_out"])).abs().max() <= tolerance
