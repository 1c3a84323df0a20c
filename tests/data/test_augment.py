import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mimray.data.augment import (
    Augmentation,
    Colour,
    Mask,
    ResizedCrop,
    Sample,
    ScaleJitter,
    apply,
)
from mimray.data.crop import cut, random_crop
from mimray.data.decode import decode
from mimray.data.sources import open_source
from mimray.data.view import Placement, lay
from mimray.errors import UserError
from mimray.hashing import Purpose, key, uniform

pytestmark = pytest.mark.unit

SEEDS = st.integers(0, 2**40)
COLOUR = Colour(0.4, 0.4, 0.4, 0.1)
EVERYTHING = Augmentation(
    (80, 112),
    ScaleJitter((0.3, 2.0), "cover"),
    flip=0.5,
    vertical_flip=0.3,
    rotate=40,
    rotate_p=0.5,
    colour=COLOUR,
    grey=0.2,
    blur=0.5,
)
GEOMETRIES = [
    Augmentation((64, 96), ResizedCrop(), flip=0.5, vertical_flip=0.5),
    Augmentation((96, 96), ScaleJitter((0.1, 2.0)), flip=0.5),
    Augmentation((64, 64), ScaleJitter((0.5, 2.0), "cover"), flip=0.5, vertical_flip=0.5),
    Augmentation((48, 64), ScaleJitter((1.0, 1.0), "native"), flip=0.5),
    Augmentation((96, 72), ScaleJitter((0.5, 1.5)), flip=0.5, rotate=45),
    Augmentation((72, 96), ResizedCrop((0.3, 1.0)), flip=0.5, vertical_flip=0.5, rotate=180),
]


@pytest.fixture(scope="module")
def train():
    source = open_source("builtin:photos/train")
    return [decode(data) for data in source.read(np.arange(0, 800, 80))]


def labelled(picture, seed=0, boxes=6, points=5):
    """A picture with boxes, a mask of classes, a depth, and keypoints drawn at random."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    corners = np.sort(rng.random((boxes, 2, 2)) * (width, height), axis=1)
    xy = rng.random((points, 2)) * (width, height)
    return Sample(
        picture,
        boxes=corners.reshape(-1, 4).astype(np.float32),
        box_labels=np.arange(boxes) + 100,
        masks=(
            Mask((picture[..., 0] // 32).astype(np.uint8), 255),
            Mask(rng.random((height, width)).astype(np.float32) + 1, 0.0),
        ),
        keypoints=np.hstack([xy, np.full((points, 1), 2)]).astype(np.float32),
        flip_pairs=((0, 1), (2, 4)),
    )


def arrays(sample):
    found = [sample.image, sample.boxes, sample.box_labels, sample.keypoints]
    return [a for a in found if a is not None] + [m.values for m in sample.masks]


def digest(sample):
    parts = [f"{a.dtype}{a.shape}".encode() + a.tobytes() for a in arrays(sample)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def same(left, right):
    return digest(left) == digest(right)


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


# What it does to the picture and to its labels, in closed form


def test_by_default_nothing_changes(train):
    for picture in train[:5]:
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


def test_what_comes_back_shares_no_memory_and_what_goes_in_stays(train):
    for augmentation in (Augmentation(train[0].shape[:2]), EVERYTHING):
        sample = labelled(train[0])
        before = digest(sample)
        got = apply(augmentation, sample, 0, 0, 0)
        for ours in arrays(got):
            assert ours.flags.c_contiguous and ours.flags.writeable
            assert not any(np.shares_memory(ours, theirs) for theirs in arrays(sample))
            ours[...] = 0
        assert digest(sample) == before


@pytest.mark.parametrize("jitter", [ScaleJitter(), ResizedCrop((0.2, 0.8)), "turned"])
def test_a_flip_is_an_exact_mirror(train, jitter):
    turn = {"rotate": 30.0} if jitter == "turned" else {}
    crop = ScaleJitter() if jitter == "turned" else jitter
    plain = Augmentation((64, 80), crop, **turn)
    across = Augmentation((64, 80), crop, flip=1.0, **turn)
    down = Augmentation((64, 80), crop, vertical_flip=1.0, **turn)
    for row, picture in enumerate(train):
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


def test_both_mirrors_are_half_a_turn_and_swap_no_sides(train):
    picture = train[0][:64, :64]
    sample = labelled(picture)
    both = apply(Augmentation((64, 64), flip=1.0, vertical_flip=1.0), sample, 0, 0, 0)
    assert np.array_equal(both.image, picture[::-1, ::-1])
    assert np.allclose(both.keypoints[:, :2], 64 - sample.keypoints[:, :2], atol=1e-3)


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3])
def test_a_pure_scale_scales_everything(train, factor):
    for picture in train[:5]:
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


def test_native_crops_are_pieces_of_the_picture(train):
    sample = labelled(train[0])
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


def test_a_turn_by_ninety_degrees(train):
    picture = train[0][:64, :64]
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


def test_a_region_lies_in_the_middle(train):
    picture = train[0][:96, :96]
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


# The draws


def test_scale_flip_and_angle_are_spread_as_they_should_be():
    picture = np.zeros((40, 40, 3), np.uint8)
    box = np.array([[10, 10, 20, 20]], np.float32)
    point = np.array([[10, 20, 1], [30, 20, 1]], np.float32)
    sample = Sample(picture, boxes=box, keypoints=point)
    augmentation = Augmentation((80, 80), ScaleJitter((0.2, 1.0)), flip=0.3)
    got = [apply(augmentation, sample, 0, row, 0) for row in range(600)]
    scale = np.array([g.boxes[0, 2] - g.boxes[0, 0] for g in got]) / 20
    counts, _ = np.histogram(scale, bins=8, range=(0.19, 1.01))
    assert counts.sum() == 600 and counts.min() > 45
    flipped = [g.keypoints[1, 0] < g.keypoints[0, 0] for g in got]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.06)
    turn = Augmentation((40, 40), rotate=30, rotate_p=0.6)
    across = [np.diff(apply(turn, sample, 0, r, 0).keypoints[:, :2], axis=0)[0] for r in range(600)]
    angle = np.degrees(np.arctan2([a[1] for a in across], [a[0] for a in across]))
    assert np.mean(np.abs(angle) < 1e-3) == pytest.approx(0.4, abs=0.06)
    assert np.abs(angle).max() == pytest.approx(30, abs=0.5) and abs(angle.mean()) < 2


def test_flip_grey_and_blur_are_drawn_apart():
    """albumentations' own seeding starts every transform at the same number: all or none."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = (255, 0, 0)
    augmentation = Augmentation((8, 8), flip=0.5, grey=0.5, blur=0.5, blur_sigma=(2, 2))
    seen = np.zeros((400, 3), bool)
    for row in range(400):
        red, green, _ = np.moveaxis(apply(augmentation, Sample(picture), 0, row, 0).image, 2, 0)
        seen[row] = red[0, 7] > red[0, 0], (red == green).all(), len(np.unique(red)) > 2
    assert np.abs(seen.mean(axis=0) - 0.5).max() < 0.08
    assert np.abs(np.corrcoef(seen.T.astype(float)) - np.eye(3)).max() < 0.16


@given(SEEDS, SEEDS, SEEDS)
def test_a_sample_depends_on_seed_row_and_epoch_alone(seed, row, epoch):
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    sample = labelled(picture)
    first = apply(EVERYTHING, sample, seed, row, epoch)
    others = [
        apply(EVERYTHING, sample, *names)
        for names in [(seed + 1, row, epoch), (seed, row + 1, epoch), (seed, row, epoch + 1)]
    ]
    assert same(first, apply(EVERYTHING, sample, seed, row, epoch))
    assert not any(same(first, other) for other in others)


def many(numbers):
    """What rows `numbers` become, some under other settings."""
    out = {}
    for row in numbers:
        picture = np.random.default_rng(row).integers(0, 256, (60, 50, 3), dtype=np.uint8)
        augmentation = GEOMETRIES[row % 6] if row % 2 else EVERYTHING
        out[row] = digest(apply(augmentation, labelled(picture, row), 7, row, row % 3))
    return out


def test_order_threads_and_other_calls_change_nothing():
    expected = many(range(40))
    assert many(reversed(range(40))) == expected
    assert many([5, 5, 17, 3, 17]) == {row: expected[row] for row in (5, 17, 3)}
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(many, [range(k, 40, 4) for k in range(4)] * 2))
    for part in parts:
        assert part.items() <= expected.items()


def test_another_process_gives_the_same():
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import test_augment;"
        "print(json.dumps(test_augment.many([9, 2, 4])))"
    )
    here = __file__.rsplit("/", 1)[0]
    done = subprocess.run([sys.executable, "-c", script, here], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {int(k): v for k, v in json.loads(done.stdout).items()} == many([2, 4, 9])


def test_global_random_states_are_neither_used_nor_changed(train):
    sample = labelled(train[0])
    results = set()
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
        results.add("".join(digest(apply(EVERYTHING, sample, 3, row, 0)) for row in range(8)))
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tobytes() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    assert len(results) == 1


def test_importing_it_is_cheap_and_nothing_asks_the_network():
    script = """
import sys
asked = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and asked.append(event))
from mimray.data.augment import *
assert "albumentations" not in sys.modules and "cv2" not in sys.modules
apply(Augmentation((8, 8)), Sample(np.zeros((9, 9, 3), np.uint8)), 0, 0, 0)
assert "albumentations" in sys.modules and not asked, asked
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Pixels


def test_a_resized_crop_is_that_of_pretraining(train):
    augmentation = Augmentation((64, 64), ResizedCrop((0.2, 1.0)))
    for row, picture in enumerate(train):
        numbers = key(key(Purpose.AUGMENT, 5, row, 2), np.arange(41))
        box = random_crop(*picture.shape[:2], (0.2, 1.0), (3 / 4, 4 / 3), 0.0, uniform(numbers))
        expected = cut(picture, box, 64)
        assert np.array_equal(apply(augmentation, Sample(picture), 5, row, 2).image, expected)


@pytest.mark.parametrize("side", [24, 48, 90])
def test_scaling_down_is_pillow_s(train, side):
    for picture in train:
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


def test_a_small_turn_changes_little(train):
    for picture in train:
        sample = Sample(picture[:96, :96])
        turned = apply(Augmentation((48, 48), rotate=0.01), sample, 0, 1, 0).image
        plain = apply(Augmentation((48, 48)), sample, 0, 1, 0).image
        assert psnr(turned[2:-2, 2:-2], plain[2:-2, 2:-2]) > 40


# Labels follow the picture


@given(SEEDS, st.sampled_from(GEOMETRIES))
def test_masks_keep_their_values(seed, augmentation):
    sample = labelled(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    got = apply(augmentation, sample, seed, 0, 0)
    for ours, theirs in zip(got.masks, sample.masks, strict=True):
        assert ours.values.shape == augmentation.size and ours.values.dtype == theirs.values.dtype
        assert np.isin(
            ours.values, np.append(theirs.values, theirs.fill).astype(ours.values.dtype)
        ).all()
    assert np.array_equal(got.masks[0].values == 255, got.masks[1].values == 0)


def drawn(seed):
    """A rectangle (its box in whole pixels), in picture and mask."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 140, 2)
    top, left = rng.integers(0, height - 24), rng.integers(0, width - 24)
    bottom, right = rng.integers(top + 20, height), rng.integers(left + 20, width)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[top:bottom, left:right] = 255
    box = np.array([[left, top, right, bottom]], np.float32)
    mask = Mask((picture[..., 0] // 255).astype(np.int32), 7)
    return Sample(picture, boxes=box, box_labels=np.array([5]), masks=(mask,))


def bounds(hit):
    rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@given(SEEDS, st.sampled_from(GEOMETRIES))
def test_a_box_is_where_its_rectangle_is(seed, augmentation):
    augmentation = replace(augmentation, fill=(0, 0, 0))
    got = apply(augmentation, drawn(seed), seed, 1, 2)
    hit, white = got.masks[0].values == 1, got.image[..., 0] > 127
    if not len(got.boxes):
        assert not hit.any() or (bounds(hit)[2:] - bounds(hit)[:2]).min() <= 2
        return
    (box,) = got.boxes
    height, width = augmentation.size
    assert (box >= 0).all() and (box <= (width, height, width, height)).all()
    assert (box[2:] - box[:2] >= 0.999).all()
    touches = (box[:2] <= 0).any() or (box[2:] >= (width, height)).any()
    if augmentation.rotate and touches:  # the corners that made it so large are cut off
        if hit.any():
            assert (bounds(hit)[:2] >= box[:2] - 1).all() and (bounds(hit)[2:] <= box[2:] + 1).all()
        return
    slack = 2.0 if augmentation.rotate else 1.0
    assert np.abs(bounds(hit) - box).max() <= slack
    assert np.abs(bounds(white) - box).max() <= slack


@given(SEEDS, st.sampled_from(GEOMETRIES))
def test_a_keypoint_is_where_its_dot_is(seed, augmentation):
    """To a fraction of a pixel, which half a pixel's shift in a flip or a scale would break."""
    augmentation = replace(augmentation, fill=(0, 0, 0))
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 140, 2)
    y, x = rng.integers(8, height - 8), rng.integers(8, width - 8)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y - 4 : y + 5, x - 4 : x + 5] = 255
    sample = Sample(picture, keypoints=np.array([[x + 0.5, y + 0.5, 2]]))
    got = apply(augmentation, sample, seed, 0, 0)
    (point,) = got.keypoints
    frame = np.array([augmentation.size[1], augmentation.size[0]])
    assert (point[2] == 2) == ((point[:2] >= 0) & (point[:2] <= frame)).all()
    weight = got.image[..., 0].astype(float)
    rim = [weight[0], weight[-1], weight[:, 0], weight[:, -1]]
    if point[2] and weight.sum() > 500 and not any(r.any() for r in rim):
        rows, columns = np.indices(weight.shape) + 0.5
        centre = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
        assert np.abs(point[:2] - centre).max() < 0.15


def test_boxes_of_which_too_little_is_seen_are_dropped_with_their_labels():
    picture = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array(
        [[0, 0, 20, 20], [40, 0, 60, 20], [45, 0, 65, 20], [70, 70, 90, 90], [8, 8, 8, 30]]
    )
    sample = Sample(
        picture, boxes=boxes, box_labels=np.array([[1, 0], [2, 0], [3, 1], [4, 1], [5, 1]])
    )
    sample = replace(sample, region=(0, 0, 50, 50))  # so the frame is the picture's upper left
    for share, expected in ((0.0, [1, 2, 3]), (0.25, [1, 2, 3]), (0.26, [1, 2]), (0.51, [1])):
        augmentation = Augmentation((50, 50), ScaleJitter(base="native"), min_visible=share)
        got = apply(augmentation, sample, 0, 0, 0)
        assert got.box_labels[:, 0].tolist() == expected
        assert np.allclose(got.boxes[0], [0, 0, 20, 20], atol=1e-3) and got.boxes.max() <= 50


def test_boxes_may_be_none_and_reach_over_the_picture():
    picture = np.zeros((30, 40, 3), np.uint8)
    none = Sample(
        picture, boxes=np.zeros((0, 4)), box_labels=np.zeros(0, int), keypoints=np.zeros((0, 3))
    )
    got = apply(EVERYTHING, none, 0, 0, 0)
    assert (
        got.boxes.shape == (0, 4) and got.box_labels.shape == (0,) and got.keypoints.shape == (0, 3)
    )
    over = Sample(
        picture, boxes=np.array([[-5, -5, 20, 40], [50, 0, 60, 9]]), box_labels=np.array([1, 2])
    )
    got = apply(Augmentation((30, 40)), over, 0, 0, 0)
    assert np.allclose(got.boxes, [[0, 0, 20, 30]], atol=1e-3) and got.box_labels.tolist() == [1]


# Refusals


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


# Real labels


def test_coco_masks_boxes_and_keypoints_stay_together(shared):
    """Every object's polygon, transformed as a mask, fills the box that its box becomes."""
    folder = shared / "data" / "coco_mini"
    labels = json.loads((folder / "annotations" / "person_keypoints.json").read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    augmentations = [
        Augmentation((320, 320), ScaleJitter((0.4, 1.0)), flip=0.5),
        Augmentation((256, 256), ResizedCrop((0.5, 1.0)), flip=0.5),
        Augmentation((320, 320), ScaleJitter((0.4, 0.7)), flip=0.5, rotate=30),
    ]
    compared = on_person = 0
    for row, person in enumerate(a for a in labels["annotations"] if not a["iscrowd"]):
        picture = decode((folder / "images" / names[person["image_id"]]).read_bytes())
        canvas = Image.new("L", picture.shape[1::-1])
        for polygon in person["segmentation"]:
            ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        mask = np.asarray(canvas).copy()
        if not mask.any():
            continue
        points = np.array(person["keypoints"], np.float32).reshape(-1, 3)
        points[:, :2] += 0.5  # they name pixels
        sample = Sample(
            picture,
            boxes=bounds(mask)[None].astype(np.float32),
            masks=(Mask(mask, 255),),
            keypoints=points,
        )
        augmentation = augmentations[row % 3]
        got = apply(augmentation, sample, 0, row, 0)
        hit = got.masks[0].values == 1
        if hit.any() and len(got.boxes):
            found, box = bounds(hit), got.boxes[0]
            assert (found[:2] >= box[:2] - 1.5).all() and (found[2:] <= box[2:] + 1.5).all()
            if not augmentation.rotate and isinstance(augmentation.crop, ScaleJitter):
                assert np.abs(found - box).max() <= 1.5
                compared += 1
        for (x, y, _), (u, v, seen) in zip(points, got.keypoints, strict=True):
            if seen and u < got.image.shape[1] and v < got.image.shape[0]:
                on_person += (
                    int(mask[int(y), int(x)] == got.masks[0].values[int(v), int(u)]) * 2 - 1
                )
    assert compared >= 5 and on_person > 100
