import json
import random
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from timm.data.auto_augment import rand_augment_transform

from mimray.data import randaugment
from mimray.data.randaugment import check, rand_augment
from mimray.hashing import Purpose, key
from tests.data.conftest import noise

pytestmark = pytest.mark.unit

SIMMIM = "rand-m9-mstd0.5-inc1"
NOTATIONS = [
    SIMMIM,
    "rand",
    "rand-m9",
    "rand-m9-n3-mstd0.5",
    "rand-mstd1-tweights",
    "rand-m15-mmax20-n4-p0.7",
    "rand-m10-mstd101-inc0",  # levels evenly spread
    "rand-m6-n1-p1-inc1-mstd1.0-t3a",
    "rand-n9-t3aw",
]


def digests(rows):
    """What a picture becomes as each of the rows."""
    picture = noise(40, 40)
    return {
        row: sha256(rand_augment(picture, SIMMIM, "bicubic", 7, row, row % 3).tobytes()).hexdigest()
        for row in rows
    }


@pytest.fixture
def posterize(monkeypatch):
    """Pillow's, as it was when timm's notation was made: no check of the bits."""

    def old(image, bits):
        mask = ~(2 ** (8 - bits) - 1)
        return image.point([value & mask for value in range(256)] * 3)

    monkeypatch.setattr(ImageOps, "posterize", old)


@pytest.mark.parametrize("notation", NOTATIONS)
def test_pixels_are_timm_s_at_the_same_seeds(photos, notation, posterize):
    """Of the part of timm's pipeline that comes after crop and flip."""
    picture = photos[0][:96, :96]
    chain = create_transform(
        96, is_training=True, auto_augment=notation, interpolation="bicubic", separate=True
    )
    for row in range(12):
        numbers = key(key(Purpose.AUGMENT, 3, row, 2), np.arange(2)) % 2**32
        random.seed(int(numbers[0]))
        np.random.seed(int(numbers[1]))
        expected = chain[1].transforms[0](Image.fromarray(picture))
        got = rand_augment(picture, notation, "bicubic", 3, row, 2)
        assert got.dtype == np.uint8 and np.array_equal(got, np.asarray(expected))


@pytest.mark.parametrize(
    "levels", ["m0-inc0", "m0-inc1", "m10-inc0", "m10-inc1", "m20-mmax20-inc1"]
)
def test_no_operation_fails_at_its_ends(levels):
    """timm posterizes to 0 bits at level 10, which Pillow 13 refuses."""
    for notation in (f"rand-{levels}-n9-p1", f"rand-{levels}-n9-p1-t3aw"):
        for row in range(40):
            rand_augment(noise(8, 8), notation, "bicubic", 0, row, 0)


def test_without_bits_a_picture_is_black():
    image = Image.fromarray(noise(8, 8))
    posterize = randaugment._OWN.timm.NAME_TO_OP["PosterizeIncreasing"]
    for bits in (0, -1):
        black = posterize(image, bits)
        assert black.mode == "RGB" and black.size == (8, 8) and not np.asarray(black).any()
    assert np.array_equal(np.asarray(posterize(image, 3)), noise(8, 8) & 0b11100000)


def test_interpolation_is_the_framing_s(photos):
    picture = photos[0][:64, :64]
    pairs = [
        [rand_augment(picture, SIMMIM, kind, 0, row, 0) for kind in ("bilinear", "bicubic")]
        for row in range(40)
    ]
    differ = np.mean([not np.array_equal(*pair) for pair in pairs])
    assert 0.1 < differ < 0.6  # 5 of 15 operations move pixels, of which 1 on average is applied


def test_how_many_which_and_how_strongly(monkeypatch):
    """Half of two operations, all as often, at a level of N(9, 0.5) cut at 10: 8.996 on average."""
    seen = []
    transform = randaugment._OWN.transform(SIMMIM, "bicubic", 8)
    for op in transform.ops:

        def note(image, level, _name=op.name, **_):
            seen.append((_name, level))
            return image

        monkeypatch.setattr(op, "level_fn", lambda level, _: (level,))
        monkeypatch.setattr(op, "aug_fn", note)
    for row in range(3000):
        rand_augment(np.zeros((8, 8, 3), np.uint8), SIMMIM, "bicubic", 0, row, 1)
    counts, levels = Counter(name for name, _ in seen), np.array([level for _, level in seen])
    assert len(seen) == pytest.approx(3000, abs=120)
    assert len(counts) == 15 and sum((n - 200) ** 2 / 200 for n in counts.values()) < 40
    assert levels.mean() == pytest.approx(8.996, abs=0.04) and levels.max() == 10
    assert levels.std() == pytest.approx(0.49, abs=0.03)


def test_the_same_in_any_order_and_any_thread():
    expected = digests(range(40))
    assert digests(reversed(range(40))) == expected
    assert len(set(expected.values())) > 25  # about a quarter remain as they are
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(digests, [range(k, 40, 4) for k in range(4)] * 3))
    assert all(part.items() <= expected.items() for part in parts)


def test_threads_that_draw_meanwhile_change_nothing():
    expected, stop = digests(range(40)), threading.Event()

    def draw():
        while not stop.is_set():
            random.random()
            np.random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert digests(range(40)) == expected
    finally:
        stop.set()
        thread.join()


def test_it_depends_on_seed_row_and_epoch(photos):
    picture = photos[0][:48, :48]
    first = [rand_augment(picture, SIMMIM, "bicubic", 0, row, 0) for row in range(60)]
    for seed, step, epoch in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        others = [
            rand_augment(picture, SIMMIM, "bicubic", seed, row + step, epoch) for row in range(60)
        ]
        alike = np.mean([np.array_equal(a, b) for a, b in zip(first, others, strict=True)])
        assert alike < 0.25  # a sixteenth by chance: none of the operations in both


def test_another_process_gives_the_same_without_importing_timm():
    script = """
import json, sys
from mimray.data.framing import Framing
Framing(8, True, randaugment="rand-m9-mstd0.5-inc1")
assert not {"torch", "timm"} & set(sys.modules)
import numpy as np
from hashlib import sha256
from mimray.data.randaugment import rand_augment
picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
got = {row: rand_augment(picture, "rand-m9-mstd0.5-inc1", "bicubic", 7, row, row % 3) for row in (9, 2, 4)}
assert not {"torch", "timm"} & set(sys.modules)
print(json.dumps({row: sha256(array.tobytes()).hexdigest() for row, array in got.items()}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {int(k): v for k, v in json.loads(done.stdout).items()} == digests([2, 4, 9])


def test_global_random_states_are_neither_used_nor_changed():
    results = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
        results.append(digests(range(20)))
        assert random.getstate() == before[0]
        assert np.random.get_state()[1].tobytes() == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    assert results[0] == results[1]


def test_the_picture_itself_is_left_alone():
    picture = noise(32, 32)
    for row in range(40):
        rand_augment(picture, SIMMIM, "bicubic", 0, row, 0)
    assert np.array_equal(picture, noise(32, 32))


@pytest.mark.parametrize("notation", NOTATIONS)
def test_what_timm_understands_is_let_pass(notation, posterize):
    check(notation)
    rand_augment_transform(notation, {})(Image.fromarray(noise(8, 8)))


@pytest.mark.parametrize(
    ("notation", "reason"),
    [
        ("", "starts with ''"),
        ("augmix-m5", "starts with 'augmix'"),
        ("rand-m", "'m' is none of"),  # timm ignores these five
        ("rand-mstdinf", "'mstdinf' is none of"),
        ("rand-inc", "'inc' is none of"),
        ("rand-tall", "'tall' is none of"),
        ("rand-m9-m5-inc1", "twice"),
        ("rand-m9.5", "'m9.5' is none of"),  # and fails on these, some at the first picture
        ("rand-w0", "'w0' is none of"),
        ("rand--m9", "'' is none of"),
        ("rand-p1.5", "'p1.5' is none of"),
        ("rand-n20-tweights", "'n20' is none of"),
        ("rand-m9-mstd0.5-inc1 ", "'inc1 ' is none of"),
        ("rand-m9\n", "none of"),
    ],
)
def test_what_timm_would_ignore_or_fail_on_is_refused(notation, reason):
    with pytest.raises(ValueError) as caught:
        check(notation)
    line = str(caught.value)
    assert line.startswith("augment.randaugment=") and reason in line and "\n" not in line
