import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from mimray.data.crop import (
    Crop,
    centre_crop,
    cut,
    cut_centre,
    draws,
    random_crop,
    rescale,
)
from mimray.data.decode import decode
from tests.data.conftest import noise

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


def decibels(error):
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def square_error(a, b):
    return np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)


def pillow(picture, box, size, filter=Image.Resampling.BILINEAR):
    """Pillow's crop, antialiased resize and mirror."""
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    cut_out = Image.fromarray(picture).crop(corners)
    got = np.asarray(cut_out.resize((size, size), filter))
    return got[:, ::-1] if box.flip else got


@pytest.mark.parametrize("scale", [SCALE, (0.08, 1.0)])
@pytest.mark.parametrize("size", [32, 64, 96, 192])
def test_pixels_are_pillow_s(photos, size, scale):
    errors = []
    for row, picture in enumerate(photos * 4):
        box = crop(*picture.shape[:2], row, scale=scale)
        got, expected = cut(picture, box, size), pillow(picture, box, size)
        assert got.dtype == np.uint8 and got.shape == (size, size, 3)
        difference = got.astype(int) - expected
        assert np.abs(difference).max() <= 1 and abs(difference.mean()) < 0.01
        errors.append(square_error(got, expected))
    least = 70 if size == 192 else 67  # of 128 px to 64, more sums lie halfway between two bytes
    assert decibels(np.mean(errors)) >= least and decibels(np.max(errors)) >= 58


@pytest.mark.parametrize("size", [64, 192, 224])
def test_bicubic_pixels_are_pillow_s(photos, size):
    """Of SimMIM's fine-tuning crops, most of which are enlarged here: both passes round."""
    errors = []
    for row, picture in enumerate(photos * 4):
        box = crop(*picture.shape[:2], row, scale=(0.08, 1.0))
        got = cut(picture, box, size, None, "bicubic")
        expected = pillow(picture, box, size, Image.Resampling.BICUBIC)
        difference = got.astype(int) - expected
        assert np.abs(difference).max() <= 2 and abs(difference.mean()) < 0.01
        assert not np.array_equal(got, cut(picture, box, size))
        errors.append(square_error(got, expected))
    assert decibels(np.mean(errors)) >= 68 and decibels(np.max(errors)) >= 58


PICTURES = {
    "landscape": (375, 500),
    "portrait": (500, 375),
    "square": (300, 300),
    "odd": (333, 412),
    "smaller than the frame": (50, 61),
    "of the right side": (219, 300),
    "a panorama": (40, 600),
}


@pytest.mark.parametrize("size", [64, 192, 224])
@pytest.mark.parametrize("shape", PICTURES.values(), ids=PICTURES.keys())
def test_the_scaled_centre_is_torchvision_s(photos, shape, size):
    """SimMIM's evaluation: the shorter side to int(256 / 224 * size), bicubic, then its centre."""
    side = int(256 / 224 * size)
    picture = rescale(photos[0], shape)
    theirs = Compose([Resize(side, InterpolationMode.BICUBIC), CenterCrop(size)])
    expected = np.asarray(theirs(Image.fromarray(picture)))
    got = cut_centre(picture, side, size, "bicubic")
    assert got.shape == (size, size, 3) and got.dtype == np.uint8
    assert np.abs(got.astype(int) - expected).max() <= 2
    assert decibels(square_error(got, expected)) >= 65


def test_the_scaled_centre_of_an_endless_picture_takes_little_memory():
    """A photo's noise, 8 px by a file's largest width: 1.6 GB if all of it were scaled."""
    picture = np.tile(noise(8, 16), (1, 4096, 1))
    tracemalloc.start()
    got = cut_centre(picture, 256, 224, "bicubic")
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    middle = picture[:, picture.shape[1] // 2 - 32 :][:, :64]
    assert np.array_equal(got, cut_centre(middle, 256, 224, "bicubic"))
    assert taken < 20 * 2**20


@pytest.mark.parametrize("scale", [SCALE, (0.08, 1.0)])
def test_photos_from_their_bytes_are_pillow_s(shared, scale):
    errors = []
    for row, path in enumerate(sorted((shared / "data/photos_hi/images").iterdir())[::10]):
        picture = decode(path.read_bytes())
        box = crop(*picture.shape[:2], row, scale=scale)
        reference = np.asarray(Image.open(path).convert("RGB"))
        errors.append(square_error(cut(picture, box, 192), pillow(reference, box, 192)))
    assert len(errors) == 14 and decibels(np.mean(errors)) >= 70


LENGTHS = st.integers(8, 120)


@given(LENGTHS, LENGTHS, LENGTHS, LENGTHS)
@example(100, 110, 110, 90)  # once 2 off: both passes round
def test_the_two_passes_go_in_pillow_s_order(height, width, to_height, to_width):
    """Noise tells the orders apart: with the other one a fifth of all values would be 1 off."""
    picture = noise(height, width)
    expected = Image.fromarray(picture).resize((to_width, to_height), Image.Resampling.BILINEAR)
    difference = rescale(picture, (to_height, to_width)).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 2 and np.mean(difference != 0) < 0.1


def test_the_order_turns_where_pillow_s_does():
    for width, taller_first in [(71, True), (72, False), (73, False)]:
        picture = noise(80, width)
        pairs = [Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR)]
        for between in [(64, 80), (width, 64)]:
            first = Image.fromarray(picture).resize(between, Image.Resampling.BILINEAR)
            pairs.append(first.resize((64, 64), Image.Resampling.BILINEAR))
        whole, wide_first, tall_first = (np.asarray(image) for image in pairs)
        assert np.array_equal(whole, tall_first if taller_first else wide_first)
        assert np.mean(rescale(picture, (64, 64)) != whole) < 0.1


def test_a_flip_mirrors_columns(photos):
    box = Crop(3, 5, 60, 70, False)
    plain, mirrored = cut(photos[0], box, 48), cut(photos[0], box._replace(flip=True), 48)
    assert np.array_equal(mirrored, plain[:, ::-1]) and not np.array_equal(mirrored, plain)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(0, 0, 60, 70), (5, 9, 90, 40), (2, 7, 48, 48)])
def test_a_batch_is_filled_in_place(photos, box, flip):
    box = Crop(*box, flip)
    batch = np.full((3, 48, 48, 3), 7, dtype=np.uint8)
    got = cut(photos[0], box, 48, out=batch[1])
    assert np.shares_memory(got, batch) and np.array_equal(batch[1], cut(photos[0], box, 48))
    assert (batch[[0, 2]] == 7).all()


def test_a_box_of_the_right_size_is_copied(photos):
    got = cut(photos[0], Crop(2, 7, 64, 64, False), 64)
    assert np.array_equal(got, photos[0][2:66, 7:71]) and not np.shares_memory(got, photos[0])


def test_a_part_of_a_picture_is_scaled_as_its_copy_is(photos):
    part = photos[0][3:99, 5:60]
    assert not part.flags.c_contiguous
    assert np.array_equal(rescale(part, (40, 40)), rescale(part.copy(), (40, 40)))
