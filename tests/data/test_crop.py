import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimray.data.crop import Crop, centre_crop, draws, random_crop, resize

pytestmark = pytest.mark.unit

SCALE, RATIO = (0.67, 1.0), (3 / 4, 4 / 3)
SIDES = st.integers(8, 3000)


def crop(height, width, row=0, seed=0, epoch=0, scale=SCALE, ratio=RATIO, flip=0.5):
    numbers = draws(seed, np.array([row]), np.array([epoch]))
    return random_crop(height, width, scale, ratio, flip, numbers[0])


@given(SIDES, SIDES, st.integers(0, 10**9))
def test_a_box_lies_inside_the_picture(height, width, row):
    for scale in (SCALE, (0.08, 1.0), (0.0001, 0.001)):
        box = crop(height, width, row, scale=scale)
        assert box.height >= 1 and box.width >= 1
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width


@given(st.integers(64, 3000), st.floats(0.8, 1.25), st.integers(0, 10**9))
def test_scale_and_ratio_keep_their_limits(height, aspect, row):
    width = round(height * aspect)
    box = crop(height, width, row, scale=(0.2, 0.7))
    pixel = 2.0 / min(box.height, box.width)  # sides are rounded to whole pixels
    assert 0.2 * (1 - pixel) <= box.height * box.width / (height * width) <= 0.7 * (1 + pixel)
    assert RATIO[0] * (1 - pixel) <= box.width / box.height <= RATIO[1] * (1 + pixel)


@pytest.mark.parametrize(
    ("height", "width", "box"), [(100, 1000, (0, 434, 100, 133)), (1000, 100, (434, 0, 133, 100))]
)
def test_too_long_a_picture_gives_the_largest_centred_box(height, width, box):
    got = crop(height, width)
    assert got[:4] == pytest.approx(box, abs=1)


def test_area_shape_place_and_flip_are_spread_as_they_should_be():
    size = 1000
    numbers = draws(0, np.arange(4000), np.zeros(4000, dtype=np.int64))
    boxes = [random_crop(size, size, (0.2, 0.4), RATIO, 0.3, d) for d in numbers]
    area = np.array([b.height * b.width / size**2 for b in boxes])
    shape = np.array([np.log(b.width / b.height) for b in boxes])
    place = np.array([b.top / (size - b.height) for b in boxes])
    for drawn, low, high in [
        (area, 0.2, 0.4),
        (shape, np.log(RATIO[0]), np.log(RATIO[1])),
        (place, 0, 1),
    ]:
        counts, _ = np.histogram(drawn, bins=10, range=(low - 0.002, high + 0.002))
        assert counts.sum() == 4000 and ((counts - 400) ** 2 / 400).sum() < 40
    assert np.mean([b.flip for b in boxes]) == pytest.approx(0.3, abs=0.03)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**4))
def test_a_crop_depends_on_seed_row_and_epoch_alone(seed, row, epoch):
    rows, epochs = np.array([row, row + 1, row]), np.array([epoch, epoch, epoch + 1])
    together = draws(seed, rows, epochs)
    assert np.array_equal(together[0], draws(seed, rows[:1], epochs[:1])[0])
    assert not np.isin(together[0], together[1:]).any()
    assert not np.isin(together[0], draws(seed + 1, rows[:1], epochs[:1])).any()


def test_flip_is_never_or_always_at_its_ends():
    assert not any(crop(50, 50, row, flip=0.0).flip for row in range(50))
    assert all(crop(50, 50, row, flip=1.0).flip for row in range(50))


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(10, 10, (0, 0, 10, 10)), (10, 15, (0, 2, 10, 10)), (16, 9, (3, 0, 9, 9))],
)
def test_the_centre_crop_is_the_largest_centred_square(height, width, box):
    assert centre_crop(height, width) == Crop(*box, False)


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


@pytest.mark.parametrize("size", [32, 64, 96, 192])
def test_resize_is_pillow_s(photos, size):
    for row, picture in enumerate(photos):
        box = crop(*picture.shape[:2], row, flip=0.0)
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        cut = Image.fromarray(picture).crop(corners)
        expected = np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR))
        got = resize(picture, box, size).permute(1, 2, 0).numpy()
        assert got.dtype == np.uint8 and got.shape == (size, size, 3)
        difference = got.astype(int) - expected
        assert np.abs(difference).max() <= 1 and abs(difference.mean()) < 0.01
        assert psnr(got, expected) >= 55


def test_a_flip_mirrors_columns(photos):
    box = Crop(3, 5, 60, 70, False)
    plain, mirrored = resize(photos[0], box, 48), resize(photos[0], box._replace(flip=True), 48)
    assert torch.equal(mirrored, plain.flip(2)) and not torch.equal(mirrored, plain)


def test_a_box_of_the_right_size_is_copied(photos):
    got = resize(photos[0], Crop(2, 7, 64, 64, False), 64)
    assert np.array_equal(got.permute(1, 2, 0).numpy(), photos[0][2:66, 7:71])
