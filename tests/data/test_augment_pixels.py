"""Pixels: those of pre-training and of Pillow, antialiased however they are turned."""

import numpy as np
import pytest
from PIL import Image

from mimray.data.augment import Augmentation, ResizedCrop, Sample, apply
from mimray.data.crop import cut, random_crop
from mimray.hashing import Purpose, key, uniform

pytestmark = pytest.mark.unit


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def test_a_resized_crop_is_that_of_pretraining(train_photos):
    augmentation = Augmentation((64, 64), ResizedCrop((0.2, 1.0)))
    for row, picture in enumerate(train_photos):
        numbers = key(key(Purpose.AUGMENT, 5, row, 2), np.arange(41))
        box = random_crop(*picture.shape[:2], (0.2, 1.0), (3 / 4, 4 / 3), 0.0, uniform(numbers))
        expected = cut(picture, box, 64)
        assert np.array_equal(apply(augmentation, Sample(picture), 5, row, 2).image, expected)


@pytest.mark.parametrize("side", [24, 48, 90])
def test_scaling_down_is_pillow_s(train_photos, side):
    for picture in train_photos:
        picture = picture[:96, :96]
        got = apply(Augmentation((side, side)), Sample(picture), 0, 0, 0).image
        image = Image.fromarray(picture)
        expected = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        assert np.abs(got.astype(int) - expected).max() <= 1 and psnr(got, expected) >= 55


def test_turned_pictures_are_antialiased_too():
    """Stripes of one pixel become grey, not other stripes, when they are scaled down to a third."""
    picture = np.zeros((240, 240, 3), np.uint8)
    picture[:, ::2] = 255
    for row in range(10):
        got = apply(Augmentation((80, 80), rotate=45), Sample(picture), 0, row, 0).image
        assert np.abs(got[30:50, 30:50].astype(int) - 127).max() <= 30


def test_a_small_turn_changes_little(train_photos):
    for picture in train_photos:
        sample = Sample(picture[:96, :96])
        turned = apply(Augmentation((48, 48), rotate=0.01), sample, 0, 1, 0).image
        plain = apply(Augmentation((48, 48)), sample, 0, 1, 0).image
        assert psnr(turned[2:-2, 2:-2], plain[2:-2, 2:-2]) > 40
