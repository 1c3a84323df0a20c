import dataclasses

import numpy as np
import pytest

from mimray.data.crop import centre_crop, cut, cut_centre, draws, random_crop
from mimray.data.decode import REASONS
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import PADDING, Block
from mimray.data.randaugment import rand_augment
from mimray.data.sources import open_source
from tests.data.conftest import encode, noise, write_parquet

pytestmark = pytest.mark.unit

TRAIN = Framing(32, True, seed=1, scale=(0.5, 1.0), ratio=(0.75, 4 / 3), flip=0.5)
VAL = Framing(32, False)
FINETUNE = dataclasses.replace(TRAIN, interpolation="bicubic", randaugment="rand-m9-mstd0.5-inc1")
EVALUATE = Framing(32, False, interpolation="bicubic", margin=256 / 224)
FRAMINGS = [TRAIN, VAL, FINETUNE, EVALUATE]


@pytest.fixture
def source(tmp_path):
    good = [encode(noise(40, 50, seed)) for seed in range(4)]
    bad = [b"", good[0][:500], encode(noise(3, 3)), encode(noise(), "GIF")]
    write_parquet(tmp_path / "x.parquet", good + bad, group=3)
    return open_source(str(tmp_path))


def load(source, rows, framing, epoch=0, spares=None):
    rows = np.array(rows, dtype=np.int64)
    spares = np.zeros((len(rows), 0), dtype=np.int64) if spares is None else np.array(spares)
    return load_block(source, Block(rows, np.full_like(rows, epoch), spares), framing)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_batch_has_pictures_rows_and_reasons(source, framing):
    batch = load(source, [3, 0, 2], framing)
    assert batch["image"].shape == (3, 32, 32, 3) and batch["image"].dtype == np.uint8
    assert batch["row"].tolist() == [3, 0, 2] and batch["row"].dtype == np.int64
    assert batch["reason"].tolist() == [0, 0, 0] and batch["reason"].dtype == np.int8
    assert all(image.any() for image in batch["image"])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_cannot_be_read_is_black_and_says_why(source, framing):
    batch = load(source, [4, 1, 5, 6, 7], framing)
    why = [REASONS[reason] for reason in batch["reason"]]
    assert why == ["not a picture", "", "damaged", "too small", "format"]
    assert [bool(image.any()) for image in batch["image"]] == [False, True, False, False, False]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_padding_is_black_and_not_damaged(source, framing):
    batch = load(source, [PADDING, 1, PADDING], framing)
    assert batch["row"].tolist() == [PADDING, 1, PADDING] and not batch["reason"].any()
    assert [bool(image.any()) for image in batch["image"]] == [False, True, False]
    assert not load(source, [PADDING], framing)["image"].any()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_picture_does_not_depend_on_its_batch(source, framing):
    together = load(source, [2, PADDING, 4, 0, 3], framing)["image"]
    for place, row in [(0, 2), (3, 0), (4, 3)]:
        assert np.array_equal(together[place], load(source, [row], framing)["image"][0])


@pytest.mark.parametrize("framing", [TRAIN, FINETUNE])
def test_training_crops_change_with_epoch_and_seed(source, framing):
    first = load(source, [0, 1], framing)["image"]
    assert np.array_equal(first, load(source, [0, 1], framing)["image"])
    for other in (
        load(source, [0, 1], framing, epoch=1)["image"],
        load(source, [0, 1], dataclasses.replace(framing, seed=2))["image"],
    ):
        assert (first != other).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("framing", [VAL, EVALUATE])
def test_validation_is_the_same_in_every_epoch(source, framing):
    first, later = load(source, [0], framing), load(source, [0], framing, epoch=1)
    assert np.array_equal(first["image"], later["image"])


def test_validation_sees_the_centred_square(source):
    framing = dataclasses.replace(VAL, size=40)
    got = load(source, [1], framing)["image"][0]
    assert np.array_equal(got, noise(40, 50, 1)[:, 5:45])


def test_the_centred_square_can_be_scaled_bicubically(source):
    framing = dataclasses.replace(VAL, interpolation="bicubic")
    expected = cut(noise(40, 50, 1), centre_crop(40, 50), 32, None, "bicubic")
    assert np.array_equal(load(source, [1], framing)["image"][0], expected)


def test_evaluation_sees_the_centre_of_the_scaled_picture(source):
    picture = noise(40, 50, 1)
    got = load(source, [1], dataclasses.replace(EVALUATE, size=35))["image"][0]
    assert np.array_equal(got, picture[2:37, 8:43])  # int(256 / 224 * 35) is 40: only cut
    got = load(source, [1], EVALUATE)["image"][0]
    assert np.array_equal(got, cut_centre(picture, 36, 32, "bicubic"))


def test_what_is_augmented_is_the_cut_and_mirrored_picture(source):
    scale, ratio, notation = FINETUNE.scale, FINETUNE.ratio, "rand-m9-mstd0.5-inc1"
    for row in range(4):
        draw = draws(FINETUNE.seed, np.array([row]), np.array([3]))[0]
        box = random_crop(40, 50, scale, ratio, FINETUNE.flip, draw)
        cut_out = cut(noise(40, 50, row), box, 32, None, "bicubic")
        expected = rand_augment(cut_out, notation, "bicubic", FINETUNE.seed, row, 3)
        assert np.array_equal(load(source, [row], FINETUNE, epoch=3)["image"][0], expected)


def test_any_split_into_blocks_gives_the_same_augmented_pictures(source):
    rows = list(range(4)) * 2
    whole = load(source, rows, FINETUNE)["image"]
    for parts in ([rows[:3], rows[3:]], [[row] for row in rows]):
        split = np.concatenate([load(source, part, FINETUNE)["image"] for part in parts])
        assert np.array_equal(whole, split)
    assert np.array_equal(whole, load(source, rows[::-1], FINETUNE)["image"][::-1])


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"margin": 0.875}, "margin=0.875"), ({"randaugment": "autoaugment"}, "augment.randaugment")],
)
def test_a_framing_that_cannot_be_is_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        Framing(32, True, **setting)


def test_the_first_spare_that_can_be_read_takes_the_place(source):
    batch = load(source, [4, 1, 5], TRAIN, spares=[[5, 2, 3], [0, 0, 0], [4, 6, 7]])
    assert batch["row"].tolist() == [4, 1, 5]
    assert batch["seen"].tolist() == [2, 1, PADDING]
    assert [REASONS[r] for r in batch["reason"]] == ["not a picture", "", "damaged"]
    assert batch["image"][0].any() and not batch["image"][2].any()


@pytest.mark.parametrize("framing", [TRAIN, FINETUNE])
def test_a_spare_is_cut_with_the_numbers_of_the_row_whose_place_it_takes(tmp_path, framing):
    """So where a picture stands in twice, it is not the same crop twice."""
    picture = encode(noise(40, 50))
    write_parquet(tmp_path / "x.parquet", [b"", picture, picture])
    source = open_source(str(tmp_path))
    batch = load(source, [0, 1], framing, spares=[[1], [2]])["image"]
    assert not np.array_equal(batch[0], batch[1])
    write_parquet(tmp_path / "y" / "y.parquet", [picture])
    own = load(open_source(str(tmp_path / "y")), [0], framing)["image"]
    assert np.array_equal(batch[0], own[0])  # row 0's own numbers
