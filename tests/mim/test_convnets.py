import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models.convnext import ConvNeXt
from timm.models.resnet import Bottleneck, ResNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mimray.mim.drop_path import HashedDropPath, use_hashed_drop_path
from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.convnext import ConvNeXtEncoder
from mimray.mim.encoders.replknet import LargeKernel, RepLKNetEncoder
from mimray.mim.encoders.resnet import ResNetEncoder
from mimray.mim.masks import to_pixels

pytestmark = pytest.mark.unit

NANO = ["resnet_nano", "convnext_nano", "replknet_nano"]
OVERLAPPING = ["resnet_nano", "replknet_nano"]


def build(name, **settings):
    torch.manual_seed(0)
    return build_encoder(name, 64, **settings).eval()


def on_meta(name, image_size=224):
    with torch.device("meta"):
        return build_encoder(name, image_size).eval()


def shake(module):
    """Parameters and running statistics as training leaves them: none at its start, none zero."""
    generator = torch.Generator().manual_seed(1)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.data.add_(0.1 + 0.4 * noise if tensor.ndim == 1 else 0.02 * (noise - 0.5))


def batch(height=64, width=64):
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(2, 3, height, width, generator=generator)
    return images, torch.rand(2, height // 4, width // 4, generator=generator) < 0.4


@pytest.mark.parametrize("name", NANO)
def test_pictures_of_any_whole_strides_give_every_stage_s_features(name):
    encoder = build(name)
    with torch.no_grad():
        features = encoder(*batch(96, 160))
    assert encoder.strides == (4, 8, 16, 32)[: len(encoder.depths)]
    assert [tuple(f.shape) for f in features] == [
        (2, width, 96 // stride, 160 // stride)
        for width, stride in zip(encoder.widths, encoder.strides, strict=True)
    ]


@pytest.mark.parametrize("name", NANO)
def test_tensors_are_channels_last_throughout(name):
    encoder = build(name)
    images, hidden = batch()
    with torch.no_grad():
        tokens = encoder.embed(images, hidden)
        features = encoder.feature_maps(tokens)
    assert encoder.tokens(images).is_contiguous() and tokens.is_contiguous()
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in features)


@pytest.mark.parametrize("name", OVERLAPPING)
def test_visible_tokens_see_hidden_pixels_as_imagenet_s_mean(name):
    encoder = build(name)
    images, hidden = batch()
    blank = torch.where(to_pixels(hidden, 4)[:, None], 0.0, images)
    with torch.no_grad():
        tokens, whole = encoder.embed(images, hidden), encoder.tokens(images)
        assert torch.equal(tokens[~hidden], encoder.tokens(blank)[~hidden])
        assert not torch.equal(tokens[~hidden], whole[~hidden])
        assert torch.equal(encoder.embed(images, None), whole)
    assert (tokens[hidden] == encoder.mask_token.view(-1)).all()


def test_convnext_s_visible_tokens_are_the_picture_s():
    encoder = build("convnext_nano")
    images, hidden = batch()
    with torch.no_grad():
        tokens, whole = encoder.embed(images, hidden), encoder.tokens(images)
    assert torch.equal(tokens[~hidden], whole[~hidden])
    assert (tokens[hidden] == encoder.mask_token.view(-1)).all()


@pytest.mark.parametrize("name", NANO)
def test_batch_norm_is_announced(name):
    has = any(isinstance(m, nn.BatchNorm2d) for m in build(name).modules())
    assert ENCODERS[name].batch_norm == has == (name != "convnext_nano")


@pytest.mark.parametrize("name", NANO)
def test_drop_path_grows_from_0_and_is_hashed(name):
    encoder = build(name, drop_path=0.3)
    assert any(isinstance(m, DropPath) for m in encoder.modules())
    use_hashed_drop_path(encoder)
    rates = [m.rate for m in encoder.modules() if isinstance(m, HashedDropPath)]
    assert not any(isinstance(m, DropPath) for m in encoder.modules())
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.3)


def test_both_blocks_of_a_replknet_pair_drop_at_one_rate():
    blocks = [b for stage in build("replknet_nano", drop_path=0.3).stages for b in stage.blocks]
    rates = [b.drop_path.drop_prob for b in blocks]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])


def test_features_are_those_of_timm_s_resnet():
    torch.manual_seed(0)
    theirs = ResNet(Bottleneck, (1, 1, 1, 1), num_classes=0).eval()
    ours = ResNetEncoder(0.0, embed=64, depths=(1, 1, 1, 1)).eval()
    shake(theirs)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == ["mask_token"] and not unexpected
    images, _ = batch()
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[-1], theirs.forward_features(images))


def test_features_are_those_of_timm_s_convnext():
    torch.manual_seed(0)
    sizes = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64)}
    theirs = ConvNeXt(num_classes=0, **sizes).eval()
    ours = ConvNeXtEncoder(0.0, embed=8, depths=(1, 1, 2, 1)).eval()
    shake(theirs)
    weights = {k.replace("head.norm", "norm_pre"): v for k, v in theirs.state_dict().items()}
    missing, unexpected = ours.load_state_dict(weights, strict=False)
    assert missing == ["mask_token"] and not unexpected
    images, _ = batch()
    with torch.no_grad():
        expected = theirs.head.norm(theirs.forward_features(images))
        torch.testing.assert_close(ours(images)[-1], expected)


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny", "convnext_small", "convnext_large"])
def test_parameters_have_timm_s_names_and_shapes(name):
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0)
    ours = {k: v.shape for k, v in on_meta(name).state_dict().items() if k != "mask_token"}
    named = {k.replace("head.norm", "norm_pre"): v.shape for k, v in theirs.state_dict().items()}
    assert ours == named


def test_resnet50x4_is_resnet50_four_times_as_wide_everywhere():
    narrow, wide = on_meta("resnet50").state_dict(), on_meta("resnet50x4").state_dict()
    assert narrow.keys() == wide.keys()
    for name, tensor in narrow.items():
        expected = [n * 4 if n > 7 else n for n in tensor.shape]  # 1, 3, 7: kernels, colours
        assert list(wide[name].shape) == expected, name


@pytest.mark.parametrize(("image_size", "billions"), [(224, 15.3), (384, 45.1)])
def test_replknet_computes_as_much_as_published(image_size, billions):
    """DingXiaoH/RepLKNet-pytorch, README: 79 M parameters, 15.3 and 45.1 G multiply-adds, merged."""
    encoder = on_meta("replknet31_base_plain")
    with FlopCounterMode(display=False) as counter:
        encoder(torch.empty(1, 3, image_size, image_size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, abs=0.1)


def test_a_convnet_without_its_parts_is_none():
    class WithoutStages(ConvEncoder):
        def run_stem(self, images):
            return images

    with pytest.raises(TypeError, match="abstract method run_stages"):
        WithoutStages()


@pytest.mark.parametrize("reparam", [True, False])
def test_merging_changes_no_feature(reparam):
    torch.manual_seed(0)
    encoder = RepLKNetEncoder(0.0, 8, (1, 2), (13, 5), reparam).eval()
    shake(encoder)
    images, hidden = batch()
    with torch.no_grad():
        before = encoder(images, hidden)
        encoder.merge()
        encoder.merge()
        after = encoder(images, hidden)
    for one, other in zip(before, after, strict=True):
        assert one.std() > 0.1
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert not any(isinstance(m, LargeKernel) for m in encoder.modules())


def test_merging_leaves_as_many_parameters_as_a_kernel_and_a_bias():
    branched, plain = on_meta("replknet31_base"), on_meta("replknet31_base_plain")
    channels = 2 * 128 + 2 * 256 + 18 * 512 + 2 * 1024  # of all large kernels

    def count(encoder):
        return sum(p.numel() for p in encoder.parameters())

    assert count(branched) - count(plain) == channels * (5 * 5 + 2)
    plain.merge()
    branched.merge()
    assert count(branched) == count(plain) == count(on_meta("replknet31_base_plain")) - channels


def test_replknet_s_parameters_are_named_as_published():
    names = {n for n, _ in build("replknet_nano").named_parameters()}
    for name in (
        "stem.0.conv.weight",
        "stem.3.bn.bias",
        "stages.2.blocks.0.prelkb_bn.weight",
        "stages.2.blocks.0.pw1.conv.weight",
        "stages.2.blocks.2.large_kernel.lkb_origin.conv.weight",
        "stages.2.blocks.2.large_kernel.small_conv.bn.weight",
        "stages.2.blocks.3.preffn_bn.weight",
        "stages.2.blocks.3.pw2.bn.weight",
        "transitions.1.1.conv.weight",
        "norm.weight",
    ):
        assert name in names
