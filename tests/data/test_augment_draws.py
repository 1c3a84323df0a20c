"""The draws: how they are spread, what they depend on, and what they leave alone."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given

from mimray.data.augment import Augmentation, Sample, ScaleJitter, apply
from tests.data.augmenting import EVERYTHING, SEEDS, digest, labelled, many, same

pytestmark = pytest.mark.unit


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


def test_order_threads_and_other_calls_change_nothing():
    expected = many(range(40))
    assert many(reversed(range(40))) == expected
    assert many([5, 5, 17, 3, 17]) == {row: expected[row] for row in (5, 17, 3)}
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(many, [range(k, 40, 4) for k in range(4)] * 2))
    for part in parts:
        assert part.items() <= expected.items()


ELSEWHERE = """
import json, sys
asked = []
sys.addaudithook(lambda event, _: event.startswith("socket.") and asked.append(event))
import mimray.data.augment
early = sorted({"albumentations", "cv2"} & set(sys.modules))
sys.path.insert(0, sys.argv[1])
import augmenting
draws = augmenting.many([9, 2, 4])
late = "albumentations" in sys.modules
print(json.dumps({"early": early, "late": late, "draws": draws, "asked": asked}))
"""


@pytest.fixture(scope="module")
def elsewhere():
    """What another process says."""
    here = __file__.rsplit("/", 1)[0]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, here], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_process_gives_the_same(elsewhere):
    assert {int(k): v for k, v in elsewhere["draws"].items()} == many([2, 4, 9])


def test_global_random_states_are_neither_used_nor_changed(train_photos):
    sample = labelled(train_photos[0])
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


def test_importing_it_is_cheap_and_nothing_asks_the_network(elsewhere):
    assert elsewhere["early"] == elsewhere["asked"] == [] and elsewhere["late"]
