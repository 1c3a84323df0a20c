from copy import deepcopy

import pytest
import torch

from mimray.mim.encoders import build_encoder
from mimray.mim.heads import HeadShape, build_head
from mimray.optim import parameter_count
from mimray.recipe import Head

pytestmark = pytest.mark.unit

NANO = [
    "swin_nano",
    "swinv2_nano",
    "vit_nano",
    "resnet_nano",
    "convnext_nano",
    "replknet_nano",
]
OVERLAPPING_STEMS = ["resnet_nano", "replknet_nano"]


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


def copy(encoder, training=False):
    """One whose running statistics and parameters may change."""
    return deepcopy(encoder).train(training)


def backbone(name, image_size, window=None):
    encoder = on_meta(name, image_size, window)
    return parameter_count(encoder.parameters()) - encoder.mask_token.numel()


# Without mask token and classifier: SimMIM (Swin-B, ViT-B), On Data Scaling in MIM (SwinV2; table 1),
# torchvision's ResNet-50, SimCLR's 4x of 375 M, timm's ConvNeXt, and RepLKNet-31B, 79 M.
COUNTS = [
    ("swin_base", 192, 6, 86_725_176),
    ("swinv2_small", 192, 12, 48_959_418),
    ("swinv2_base", 192, 12, 86_893_816),
    ("swinv2_large", 192, 12, 195_202_932),
    ("swinv2_huge", 192, 12, 655_210_922),
    ("swinv2_giant", 192, 12, 1_060_976_996),
    ("vit_base", 224, None, 85_665_360),
    ("resnet50", 224, None, 23_508_032),
    ("resnet50x4", 224, None, 375_378_176),
    ("convnext_tiny", 224, None, 27_820_128),
    ("convnext_small", 224, None, 49_454_688),
    ("convnext_base", 224, None, 87_566_464),
    ("convnext_large", 224, None, 196_230_336),
    ("replknet31_base", 224, None, 78_839_168),
    ("replknet31_base_plain", 224, None, 78_514_304),
]


@pytest.mark.parametrize(("name", "image_size", "window", "count"), COUNTS)
def test_parameters_are_as_many_as_published(name, image_size, window, count):
    assert backbone(name, image_size, window) == count


def test_the_papers_swin_base_with_its_head_has_89_874_104_parameters():
    encoder = on_meta("swin_base", 192, 6)
    with torch.device("meta"):
        head = build_head(HeadShape(encoder.channels, (6, 6), 3, encoder.stride), Head())
    assert parameter_count(encoder.parameters()) + parameter_count(head.parameters()) == 89_874_104


def test_the_papers_vit_base_has_a_token_of_768_and_a_head_of_590_592():
    encoder = on_meta("vit_base", 224)
    assert encoder.mask_token.numel() == 768
    head = build_head(HeadShape(encoder.channels, (14, 14), 3, encoder.stride), Head())
    assert parameter_count(head.parameters()) == 590_592


@pytest.mark.parametrize("training", [False, True])
def test_what_lies_under_the_mask_does_not_reach_any_feature(nano, batch, training):
    """In training a batch norm's statistics could carry it, even from one picture to another."""
    images, hidden = batch
    pixels = hidden.repeat_interleave(nano.patch, 1).repeat_interleave(nano.patch, 2)
    other = torch.where(pixels[:, None], torch.randn_like(images), images)
    assert not torch.equal(images, other)
    with torch.no_grad():
        before, after = (copy(nano, training)(x, hidden) for x in (images, other))
    assert all(map(torch.equal, before, after))


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
    encoder = copy(nano)
    encoder(images, torch.ones_like(hidden))[-1].square().sum().backward()
    assert encoder.mask_token.grad.abs().sum() > 0
    stem = next(m for m in encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert stem.in_channels == 3 and stem.weight.grad.abs().sum() == 0


@pytest.mark.parametrize("name", sorted({*NANO} - {*OVERLAPPING_STEMS}))
def test_a_hidden_patch_and_a_visible_one_with_the_token_s_value_are_the_same(name):
    encoder = build_encoder(name, 96).eval()
    images = torch.full((2, 3, 96, 96), 0.3)
    hidden = torch.rand(2, 96 // encoder.patch, 96 // encoder.patch) < 0.6
    with torch.no_grad():
        token = encoder.tokens(images)[0, 0, 0]
        encoder.mask_token.copy_(token.view_as(encoder.mask_token))
        one, other = encoder(images, hidden)[-1], encoder(images, ~hidden)[-1]
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NANO)
def test_all_parameters_get_a_gradient(name):
    torch.manual_seed(0)
    encoder = build_encoder(name, 96)
    hidden = torch.rand(2, 96 // encoder.patch, 96 // encoder.patch) < 0.6
    encoder(torch.randn(2, 3, 96, 96), hidden)[-1].square().sum().backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


def test_an_unknown_encoder_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="encoder 'swin_bse' is not known; did you mean swin_base"):
        build_encoder("swin_bse", 96, None, 0.0)


@pytest.mark.parametrize(
    ("windows", "says"),
    [
        ((6, 6), r"pretrained_windows=\(6, 6\) names 2, and the encoder has 3 stages"),
        ((6, 6, 6, 6), "names 4, and the encoder has 3 stages"),
        ((6, 6, 1), "1 is no window; it is 2 tokens or more, or 0"),
        ((6, (6, -1), 6), r"\(6, -1\) is no window"),
    ],
)
def test_windows_of_pre_training_are_one_for_each_stage(windows, says):
    with torch.device("meta"), pytest.raises(ValueError, match=says):
        build_encoder("swinv2_nano", 96, pretrained_windows=windows)
