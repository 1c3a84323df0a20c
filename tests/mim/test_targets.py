"""What holds for every target, and the targets of pixels."""

import numpy as np
import pytest
import torch

from mimray.mim.build import assemble
from mimray.mim.encoders.swin import SwinEncoder
from mimray.mim.normalisation import normalise
from mimray.mim.targets import TARGETS, build_target
from mimray.mim.targets.regression import Regression
from mimray.recipe import CLASSIFIED, TargetSettings
from tests.mim.target_files import settings_of

pytestmark = pytest.mark.unit

REGRESSED = {"pixels", "windowed", "patches", "hog"}
WITH_RESOLUTION = {"pixels", "bins", "clusters"}
PICTURES = {"pixels", "windowed", "patches", "bins", "clusters"}


@pytest.fixture
def build(tmp_path):
    """`build(kind, size, **settings)`, with the files that a kind needs."""
    return lambda kind, size=32, **more: build_target(settings_of(kind, tmp_path, **more), size)


@pytest.fixture
def images():
    """What a picture can be: uint8, normalised."""
    generator = torch.Generator().manual_seed(0)
    return normalise(torch.randint(256, (2, 3, 32, 32), generator=generator))


@pytest.mark.parametrize("kind", TARGETS)
class TestEveryTarget:
    def test_grids_and_numbers_are_as_announced(self, build, images, kind):
        target = build(kind)
        side = 32 // target.pixel
        values = target(images)
        assert target.fills == (kind in REGRESSED)
        if target.fills:
            assert values.dtype == torch.float32
            assert values.shape == (2, target.outputs, side, side)
            assert target.values == target.outputs
        else:
            assert values.dtype == torch.int64
            assert values.shape == (2, target.values, side, side)
            assert values.min() >= 0 and values.max() < target.outputs // target.values
        prediction = torch.randn(2, target.outputs, side, side)
        assert target.error(prediction, values).shape == (2, side, side)
        picture = target.to_images(prediction, images)
        assert (picture is not None) == (kind in PICTURES)
        assert picture is None or picture.shape == images.shape

    @pytest.mark.parametrize("loss", ["l1", "l2", "smooth_l1"])
    def test_the_prediction_has_a_gradient_where_it_is_hidden_and_nowhere_else(
        self, build, images, kind, loss
    ):
        if kind in CLASSIFIED and loss != "l1":
            with pytest.raises(ValueError, match=f"loss={loss} is of targets that are regressed"):
                build(kind, loss=loss)
            return
        target = build(kind, loss=loss)
        side = 32 // target.pixel
        prediction = torch.randn(2, target.outputs, side, side, requires_grad=True)
        hidden = torch.zeros(2, 8, 8, dtype=torch.bool)
        hidden[0, :4, 2:6] = hidden[1, 4:, 4:] = True
        region = target.region(hidden, 4)
        assert region.any() and not region.all()
        (target.error(prediction, target(images)) * region).sum().backward()
        there = prediction.grad.movedim(1, -1) != 0
        assert there[region].all() and not there[~region].any()

    def test_it_is_the_same_under_bf16(self, build, images, kind):
        target = build(kind)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(target(images), target(images.clone()))
            low = target(images)
        assert torch.equal(low, target(images))

    def test_it_is_built_where_a_model_is_only_looked_at(self, tmp_path, images, kind):
        settings = settings_of(kind, tmp_path)
        with torch.device("meta"):
            target = build_target(settings, 32)
        assert torch.equal(target(images), build_target(settings, 32)(images))

    def test_a_model_learns_from_it(self, build, images, kind):
        torch.manual_seed(0)
        encoder = SwinEncoder(32, 2, 0.0, embed=8, depths=(1, 1), heads=(1, 2))
        model = assemble(encoder, build(kind), (4, 4))
        hidden = torch.rand(2, 4, 4) < 0.6
        hidden = hidden.repeat_interleave(2, 1).repeat_interleave(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        losses = []
        for _ in range(4):
            out = model(images, hidden)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
            losses.append(out.loss.item())
        assert losses[-1] < losses[0]
        torch.testing.assert_close(out.loss, out.error.sum() / out.values.sum())

    def test_only_colours_are_part_of_the_state(self, build, kind):
        target = build(kind)
        assert list(target.state_dict()) == (["colours"] if kind == "clusters" else [])
        assert not list(target.parameters())

    def test_a_resolution_that_it_does_not_come_in(self, build, kind):
        if kind in WITH_RESOLUTION:
            assert build(kind, resolution=8).pixel == 4
            return
        with pytest.raises(ValueError, match=f"target.resolution=2: target.kind={kind} has"):
            build(kind, resolution=2)


@pytest.mark.parametrize("kind", ["pixels", "windowed", "patches"])
def test_to_images_inverts_the_target(build, images, kind):
    target = build(kind)
    torch.testing.assert_close(target.to_images(target(images), images), images, atol=1e-5, rtol=0)


def test_a_target_without_its_parts_is_none():
    with pytest.raises(TypeError, match="abstract methods forward, to_images"):
        Regression(TargetSettings())


def test_an_unknown_target_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"target.kind=pixel is not known; did you mean pixels\?"):
        build_target(TargetSettings(kind="pixel"), 32)


@pytest.mark.parametrize("resolution", [5, 64])
def test_a_resolution_must_divide_the_picture(resolution):
    with pytest.raises(ValueError, match=f"target.resolution={resolution} does not divide the 32"):
        build_target(TargetSettings(resolution=resolution), 32)


class TestPixels:
    def test_at_full_resolution_it_is_the_picture(self, images):
        assert build_target(TargetSettings(), 32)(images) is images

    @pytest.mark.parametrize(("resolution", "pixel"), [(48, 4), (6, 32)])
    def test_a_position_is_the_mean_under_it(self, resolution, pixel):
        images = np.random.default_rng(0).normal(size=(1, 3, 192, 192)).astype(np.float32)
        target = build_target(TargetSettings(resolution=resolution), 192)
        small = target(torch.tensor(images)).numpy()
        assert small.shape == (1, 3, resolution, resolution)
        for row, column in [(0, 0), (1, 4), (resolution - 1, 2)]:
            under = np.s_[
                :, :, pixel * row : pixel * (row + 1), pixel * column : pixel * (column + 1)
            ]
            expected = images[under].mean(axis=(2, 3))
            np.testing.assert_allclose(small[:, :, row, column], expected, atol=1e-6)
        back = target.to_images(torch.tensor(small), torch.tensor(images))
        assert back.shape == images.shape
        assert (back[..., :pixel, :pixel] == back[..., :1, :1]).all()

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({"loss": "l1"}, 0.5 + 3.0 + 1.0),
            ({"loss": "l2"}, 0.25 + 9.0 + 1.0),
            ({"loss": "smooth_l1"}, 0.125 + 2.5 + 0.5),
            ({"loss": "smooth_l1", "beta": 2.0}, 0.0625 + 2.0 + 0.25),
        ],
    )
    def test_the_error_is_the_sum_over_the_colours(self, settings, expected):
        target = build_target(TargetSettings(**settings), 1)
        off = torch.tensor([0.5, -3.0, 1.0]).view(1, 3, 1, 1)
        assert target.error(off, torch.zeros_like(off)).item() == pytest.approx(expected)

    def test_a_head_that_is_coarser_than_the_target_upsamples_less(self):
        encoder = SwinEncoder(32, 2, 0.0, embed=8, depths=(1, 1), heads=(1, 2))
        for resolution, channels in [(32, 3 * 64), (8, 3 * 4), (4, 3)]:
            target = build_target(TargetSettings(resolution=resolution), 32)
            head = assemble(encoder, target, (4, 4)).head
            assert head[0].out_channels == channels
        with pytest.raises(ValueError, match="more than the encoder's 8"):
            assemble(encoder, build_target(TargetSettings(resolution=2), 32), (4, 4))

    def test_a_position_counts_where_all_under_it_is_hidden(self):
        hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
        hidden[0, :2, :2] = hidden[0, 2:, 3] = True
        region = build_target(TargetSettings(resolution=4), 32).region(hidden, 4)
        assert region.tolist() == [[[True, False], [False, False]]]


def by_hand(images, window):
    """Pixel by pixel in float64: what of the window lies inside the picture, unbiased variance."""
    out, reach = np.empty_like(images, dtype=np.float64), window // 2
    for (b, c, y, x), value in np.ndenumerate(images.astype(np.float64)):
        part = images[b, c, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        part = part.astype(np.float64)
        out[b, c, y, x] = (value - part.mean()) / np.sqrt(part.var(ddof=1) + 1e-6)
    return out


class TestWindowed:
    @pytest.mark.parametrize("window", [3, 5, 47])
    @pytest.mark.parametrize("shape", [(2, 3, 9, 9), (1, 2, 6, 14)])
    @pytest.mark.parametrize("contrast", [1.0, 1e-3])  # the second is where 1e-6 counts
    @pytest.mark.parametrize("level", [0.0, 2.5])  # a bright sky: large numbers, small variance
    def test_it_is_the_brute_force_s(self, window, shape, contrast, level):
        noise = np.random.default_rng(0).normal(level, contrast, shape).astype(np.float32)
        target = build_target(TargetSettings(kind="windowed", window=window), shape[-1])
        got = target(torch.tensor(noise))
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got.numpy(), by_hand(noise, window), atol=2e-6)

    def test_a_flat_picture_is_nothing(self):
        target = build_target(TargetSettings(kind="windowed"), 64)
        out = target(torch.full((1, 3, 64, 64), 0.3))
        assert out.abs().max() < 1e-6

    @pytest.mark.parametrize("window", [4, 46])
    def test_a_window_without_a_centre_is_refused(self, window):
        with pytest.raises(ValueError, match=f"target.window={window} has no centre; take"):
            build_target(TargetSettings(kind="windowed", window=window), 32)
