"""What an augmentation does to a picture and to its labels, in closed form; and what is refused."""

import numpy as np
import pytest

from mimray.data.augment import Augmentation, Colour, Mask, ResizedCrop, Sample, ScaleJitter, apply
from mimray.data.view import Placement, lay
from mimray.errors import UserError
from tests.data.augmenting import COLOUR, EVERYTHING, arrays, digest, labelled

pytestmark = pytest.mark.unit


def test_by_default_nothing_changes(train_photos):
    for picture in train_photos[:5]:
        sample = labelled(picture)
        got = apply(Augmentation(picture.shape[:2]), sample, 0, 0, 0)
        assert got.image.dtype == np.uint8 and np.array_equal(got.image, picture)
        for ours, theirs in zip(got.masks, sample.masks, strict=True):
            assert ours.values.dtype == theirs.values.dtype and ours.fill == theirs.fill
            assert np.array_equal(ours.values, theirs.values)
        assert got.boxes.dtype == got.keypoints.dtype == np.float32
        assert np.allclose(got.boxes, sample.boxes, atol=1e-3)
        assert np.array_equal(got.box_labels, sample.box_labels)
        assert np.allclose(got.keypoints, sample.keypoints, atol=1e-4)


def test_what_comes_back_shares_no_memory_and_what_goes_in_stays(train_photos):
    for augmentation in (Augmentation(train_photos[0].shape[:2]), EVERYTHING):
        sample = labelled(train_photos[0])
        before = digest(sample)
        got = apply(augmentation, sample, 0, 0, 0)
        for ours in arrays(got):
            assert ours.flags.c_contiguous and ours.flags.writeable
            assert not any(np.shares_memory(ours, theirs) for theirs in arrays(sample))
            ours[...] = 0
        assert digest(sample) == before


@pytest.mark.parametrize("jitter", [ScaleJitter(), ResizedCrop((0.2, 0.8)), "turned"])
def test_a_flip_is_an_exact_mirror(train_photos, jitter):
    turn = {"rotate": 30.0} if jitter == "turned" else {}
    crop = ScaleJitter() if jitter == "turned" else jitter
    plain = Augmentation((64, 80), crop, **turn)
    across = Augmentation((64, 80), crop, flip=1.0, **turn)
    down = Augmentation((64, 80), crop, vertical_flip=1.0, **turn)
    for row, picture in enumerate(train_photos):
        sample = labelled(picture)
        a, b, c = (apply(augmentation, sample, 0, row, 0) for augmentation in (plain, across, down))
        assert np.array_equal(b.image, a.image[:, ::-1])
        assert np.array_equal(c.image, a.image[::-1])
        for one, other, third in zip(a.masks, b.masks, c.masks, strict=True):
            assert np.array_equal(other.values, one.values[:, ::-1])
            assert np.array_equal(third.values, one.values[::-1])
        mirrored = np.stack(
            [80 - a.boxes[:, 2], a.boxes[:, 1], 80 - a.boxes[:, 0], a.boxes[:, 3]], axis=1
        )
        assert np.allclose(b.boxes, mirrored, atol=1e-3)
        assert np.array_equal(b.box_labels, a.box_labels)
        swapped = a.keypoints[[1, 0, 4, 3, 2]] * (-1, 1, 1) + (80, 0, 0)
        assert np.allclose(b.keypoints, swapped, atol=1e-3)


def test_both_mirrors_are_half_a_turn_and_swap_no_sides(train_photos):
    picture = train_photos[0][:64, :64]
    sample = labelled(picture)
    both = apply(Augmentation((64, 64), flip=1.0, vertical_flip=1.0), sample, 0, 0, 0)
    assert np.array_equal(both.image, picture[::-1, ::-1])
    assert np.allclose(both.keypoints[:, :2], 64 - sample.keypoints[:, :2], atol=1e-3)


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3])
def test_a_pure_scale_scales_everything(train_photos, factor):
    for picture in train_photos[:5]:
        picture = picture[:96, :96]
        sample = labelled(picture)
        side = int(96 * factor)
        for base in ("contain", "cover"):
            got = apply(Augmentation((side, side), ScaleJitter(base=base)), sample, 0, 0, 0)
            assert np.allclose(got.boxes, sample.boxes * factor, atol=1e-3)
            assert np.allclose(got.keypoints, sample.keypoints * (factor, factor, 1), atol=1e-3)
            if factor >= 1:
                enlarged = np.kron(sample.masks[0].values, np.ones((factor, factor), np.uint8))
                assert np.array_equal(got.masks[0].values, enlarged)


def test_native_crops_are_pieces_of_the_picture(train_photos):
    sample = labelled(train_photos[0])
    places = set()
    for row in range(12):
        got = apply(Augmentation((48, 56), ScaleJitter(base="native")), sample, 0, row, 0)
        windows = np.lib.stride_tricks.sliding_window_view(sample.image, (48, 56, 3))[:, :, 0]
        ((top, left),) = np.argwhere((windows == got.image).all(axis=(2, 3, 4)))
        places.add((top, left))
        for ours, theirs in zip(got.masks, sample.masks, strict=True):
            cut = theirs.values[top : top + 48, left : left + 56]
            assert np.array_equal(ours.values, cut)
        moved = sample.keypoints[:, :2] - (left, top)
        assert np.allclose(got.keypoints[:, :2], moved, atol=1e-3)
    assert len(places) > 9


def test_a_turn_by_ninety_degrees(train_photos):
    picture = train_photos[0][:64, :64]
    view = lay((64, 64), (64, 64), Placement(1, 1, 0, 0, 32, 32), 90.0, (False, False))
    expected = np.rot90(picture)
    assert np.abs(view.image(picture, (0, 0, 0)).astype(int) - expected).max() <= 1
    assert np.array_equal(view.plane(picture[..., 0], 0), expected[..., 0])
    assert np.allclose(view.points(np.array([[50.0, 10.0]])), [[10.0, 14.0]])


def test_what_is_small_lies_at_the_top_left_and_the_rest_is_filled():
    picture = np.full((32, 48, 3), 200, np.uint8)
    sample = Sample(picture, masks=(Mask(np.ones((32, 48), np.int64), -1),))
    for colour in (Colour(), COLOUR):
        augmentation = Augmentation((96, 96), colour=colour, grey=0.0, blur=1.0, fill=(1, 2, 3))
        got = apply(augmentation, sample, 0, 0, 0)
        inside = np.zeros((96, 96), bool)
        inside[:64] = True
        assert np.array_equal(got.masks[0].values, np.where(inside, 1, -1))
        assert (got.image[~inside] == (1, 2, 3)).all()
        assert (got.image[:60] > 50).all()


def test_a_region_lies_in_the_middle(train_photos):
    picture = train_photos[0][:96, :96]
    region = (30.0, 40.0, 50.0, 80.0)
    sample = Sample(
        picture,
        boxes=np.array([region], np.float32),
        keypoints=np.array([[40, 60, 1.0]]),
        region=region,
    )
    for turn in (0.0, 20.0):
        augmentation = Augmentation((64, 48), ScaleJitter((0.8, 0.8)), rotate=turn)
        got = apply(augmentation, sample, 0, 3, 0)
        assert got.region is None
        assert np.allclose(got.keypoints, [[24, 32, 1]], atol=0.6)
        if not turn:  # 20 x 40 pixels into 48 x 64, times 0.8
            assert np.allclose(got.boxes, [[24 - 12.8, 32 - 25.6, 24 + 12.8, 32 + 25.6]], atol=1)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"flip": 1.5}, "augment.flip: 1.5"),
        ({"grey": float("nan")}, "augment.grey: nan"),
        ({"size": (0, 32)}, "augment.size: (0, 32)"),
        ({"rotate": -3}, "augment.rotate: -3"),
        ({"fill": (0, 0, 256)}, "augment.fill"),
        ({"blur_sigma": (2.0, 1.0)}, "augment.blur_sigma: (2.0, 1.0)"),
        ({"crop": ResizedCrop((0.5, 1.5))}, "augment.crop.scale"),
        ({"crop": ScaleJitter((0.0, 1.5))}, "augment.crop.scale"),
        ({"crop": ScaleJitter(base="fit")}, "augment.crop.base: 'fit' is none of contain"),
        ({"colour": Colour(hue=0.6)}, "augment.colour.hue: 0.6"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, name):
    with pytest.raises(UserError) as caught:
        Augmentation(**({"size": (8, 8)} | settings))
    assert str(caught.value).startswith(name) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        {"boxes": np.zeros((2, 5))},
        {"boxes": np.array([[0, 0, np.nan, 1]])},
        {"boxes": np.array([[5, 5, 1, 9]])},
        {"boxes": np.zeros((2, 4)), "box_labels": np.zeros(3)},
        {"keypoints": np.zeros((2, 2))},
        {"keypoints": np.zeros((2, 3)), "flip_pairs": ((0, 2),)},
        {"masks": (Mask(np.zeros((5, 5)), 0),)},
        {"masks": (Mask(np.zeros((8, 8), np.uint8), -1),)},
        {"region": (500, 500, 520, 520)},
        {"region": (3, 3, 3, 5)},
        {"image": np.zeros((8, 8), np.uint8)},
        {"image": np.zeros((8, 8, 3), np.float32)},
    ],
)
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match=next(iter(labels)).rstrip("es")):
        Sample(**({"image": np.zeros((8, 8, 3), np.uint8)} | labels))
