"""Labels follow the picture, drawn ones and those of COCO."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mimray.data.augment import Augmentation, Mask, ResizedCrop, Sample, ScaleJitter, apply
from mimray.data.decode import decode
from tests.data.augmenting import EVERYTHING, GEOMETRIES, SEEDS, labelled

pytestmark = pytest.mark.unit


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
