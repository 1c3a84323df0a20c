"""Bins and clusters: colours as classes."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from mimray.mim.normalisation import denormalise, normalise
from mimray.mim.targets import build_target
from mimray.mim.targets.bins import bin_of, middles
from mimray.recipe import TargetSettings
from tests.mim.target_files import codebook_file, colours_file

pytestmark = pytest.mark.unit


def bins(count, size, resolution=None):
    return build_target(TargetSettings(kind="bins", bins=count, resolution=resolution), size)


def clusters(folder, colours, size, resolution=None):
    file = colours_file(folder, torch.tensor(colours, dtype=torch.float32))
    return build_target(TargetSettings(kind="clusters", file=file, resolution=resolution), size)


def certain(target, numbers):
    """Logits that leave no doubt about class numbers (B, values, h, w)."""
    one_hot = torch.nn.functional.one_hot(numbers, target.classes).movedim(-1, 1)
    return 100.0 * one_hot.flatten(1, 2).float()


def grey(values):
    """A picture a value, of 8-bit values: normalised (n, 3, 1, 1)."""
    return normalise(torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1))


class TestBins:
    def test_256_bins_are_the_8_bit_values(self):
        images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        assert torch.equal(bins(256, 16)(normalise(images)), images.long())

    def test_8_bins_are_32_wide(self):
        found = bins(8, 1)(grey([0, 31, 32, 127, 128, 255]))
        assert found[:, :, 0, 0].tolist() == [[n] * 3 for n in (0, 0, 1, 3, 4, 7)]

    @given(st.integers(2, 256))
    def test_bins_are_in_order_as_equal_as_can_be_and_shown_by_their_mean(self, count):
        values = torch.arange(256)
        number = bin_of(values, count)
        sizes = number.bincount()
        assert number[0] == 0 and number[-1] == count - 1 and (number.diff() >= 0).all()
        assert len(sizes) == count and sizes.max() - sizes.min() <= 1
        means = [values[number == one].double().mean() for one in range(count)]
        assert middles(count, values.device).tolist() == means

    def test_a_low_resolution_takes_the_bin_of_the_mean(self):
        image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
        image[:, 0, :2, :2] = torch.tensor([[0, 255], [255, 255]], dtype=torch.uint8)  # 191.25
        found = bins(256, 4, resolution=2)(normalise(image))
        assert found[0, 0].tolist() == [[191, 0], [0, 0]] and not found[0, 1:].any()

    def test_the_error_is_the_sum_of_the_colours_cross_entropies(self):
        target = bins(4, 1)
        numbers = torch.tensor([3, 0, 2]).view(1, 3, 1, 1)
        prediction = torch.zeros(1, 12, 1, 1)
        assert target.values == 3 and target.outputs == 12
        assert target.error(prediction, numbers).item() == pytest.approx(3 * math.log(4))
        prediction.view(4, 3)[3, 0] = math.log(
            3
        )  # red's own bin is as likely as the others together
        expected = math.log(2) + 2 * math.log(4)
        assert target.error(prediction, numbers).item() == pytest.approx(expected)

    @pytest.mark.parametrize("resolution", [8, 4])
    def test_a_certain_prediction_shows_the_middle_of_the_bin(self, resolution):
        generator = torch.Generator().manual_seed(0)
        images = normalise(torch.randint(256, (2, 3, 8, 8), generator=generator))
        target = bins(256, 8, resolution)
        shown = target.to_images(certain(target, target(images)), images)
        step = 8 // resolution
        small = torch.nn.functional.avg_pool2d(images, step)
        expected = denormalise(small).repeat_interleave(step, 2).repeat_interleave(step, 3)
        assert torch.equal(denormalise(shown), expected)

    def test_an_uncertain_prediction_shows_the_expected_value(self):
        target = bins(2, 1)
        prediction = torch.zeros(1, 6, 1, 1)
        prediction.view(2, 3)[1, 1] = math.log(3)  # green: three to one for the upper bin
        shown = target.to_images(prediction, prediction)
        grey, green = 127.5, 63.5 / 4 + 191.5 * 3 / 4
        expected = normalise(torch.tensor([grey, green, grey]).view(1, 3, 1, 1))
        torch.testing.assert_close(shown, expected)


class TestClusters:
    COLOURS = ((250.0, 0.0, 0.0), (0.0, 250.0, 0.0), (10.0, 10.0, 10.0), (240.0, 240.0, 240.0))

    def test_a_pixel_is_its_nearest_colour(self, tmp_path):
        target = clusters(tmp_path, self.COLOURS, 16)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (3, 3, 16, 16), generator=generator)
        distance = (
            (images[:, None] - torch.tensor(self.COLOURS)[:, :, None, None]).double().norm(dim=2)
        )
        found = target(normalise(images))
        assert found.shape == (3, 1, 16, 16) and target.outputs == 4 and target.values == 1
        torch.testing.assert_close(distance.gather(1, found)[:, 0], distance.min(dim=1).values)

    def test_a_low_resolution_takes_the_colour_of_the_mean(self, tmp_path):
        image = torch.zeros(1, 3, 2, 2)
        image[0, :2, 0, 0] = image[0, :2, 1, 1] = 250.0  # (125, 125, 0): nearest to dark grey
        target = clusters(tmp_path, self.COLOURS, 2, resolution=1)
        assert target(normalise(image)).tolist() == [[[[2]]]]

    def test_a_prediction_shows_the_expected_colour(self, tmp_path):
        target = clusters(tmp_path, self.COLOURS, 2, resolution=1)
        prediction = torch.full((1, 4, 1, 1), -100.0)
        prediction[0, 0] = prediction[0, 3] = 0.0
        shown = target.to_images(prediction, torch.zeros(1, 3, 2, 2))
        expected = normalise(torch.tensor([245.0, 120.0, 120.0]).view(1, 3, 1, 1))
        torch.testing.assert_close(shown, expected.expand(1, 3, 2, 2))

    def test_blocks_do_not_show(self, tmp_path, monkeypatch):
        generator = torch.Generator().manual_seed(0)
        images = normalise(torch.randint(256, (2, 3, 8, 8), generator=generator))
        target = clusters(tmp_path, self.COLOURS, 8)
        whole = target(images)
        monkeypatch.setattr("mimray.mim.kmeans._BLOCK", 20)  # five pixels at a time
        assert torch.equal(target(images), whole)

    def test_a_state_brings_its_colours_along(self, tmp_path):
        target = clusters(tmp_path, self.COLOURS, 8)
        state = copy.deepcopy(target.state_dict())
        other = clusters(tmp_path, [(0.0, 0.0, 0.0)] * 4, 8)
        other.load_state_dict(state)
        assert other.colours.tolist() == [list(colour) for colour in self.COLOURS]

    def test_a_file_is_needed(self):
        with pytest.raises(
            ValueError, match=r"target.kind=clusters needs target.file; `mimray data"
        ):
            build_target(TargetSettings(kind="clusters"), 8)

    def test_a_file_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"target.file=no.safetensors: no such file"):
            build_target(TargetSettings(kind="clusters", file="no.safetensors"), 8)

    def test_a_file_of_something_else(self, tmp_path):
        file = codebook_file(tmp_path, torch.zeros(2, 12))
        with pytest.raises(
            ValueError, match=r"codebook.safetensors holds no colours; `mimray data"
        ):
            build_target(TargetSettings(kind="clusters", file=file), 8)
        (tmp_path / "text").write_text("red, green and blue")
        with pytest.raises(ValueError, match="neither safetensors nor a pickle of a state dict"):
            build_target(TargetSettings(kind="clusters", file=str(tmp_path / "text")), 8)

    @pytest.mark.parametrize(
        "bad", [torch.zeros(2, 4), torch.zeros(3), torch.full((2, 3), torch.nan)]
    )
    def test_colours_that_are_none(self, tmp_path, bad):
        save_file({"colours": bad}, tmp_path / "c")
        with pytest.raises(ValueError, match="holds no colours"):
            build_target(TargetSettings(kind="clusters", file=str(tmp_path / "c")), 8)


def test_a_high_resolution_of_many_bins_takes_few_copies_of_its_logits():
    """Forward and backward hold the logits, their log softmax and their gradient, no more."""
    target = bins(256, 48)
    prediction = torch.zeros(1, 768, 48, 48, requires_grad=True)
    assert target.logits(prediction).data_ptr() == prediction.data_ptr()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        target.error(prediction, target(torch.zeros(1, 3, 48, 48)))
    kept = {t.data_ptr(): t.nbytes for t in saved}
    assert sum(kept.values()) < 1.1 * prediction.nbytes
