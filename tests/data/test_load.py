import dataclasses

import numpy as np
import pytest

from mimray.data.decode import REASONS
from mimray.data.framing import Framing
from mimray.data.load import load_block
from mimray.data.plan import PADDING, Block
from mimray.data.sources import open_source
from tests.data.conftest import encode, noise, write_parquet

pytestmark = pytest.mark.unit

TRAIN = Framing(32, True, seed=1, scale=(0.5, 1.0), ratio=(0.75, 4 / 3), flip=0.5)
VAL = Framing(32, False)


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


@pytest.mark.parametrize("framing", [TRAIN, VAL])
def test_a_batch_has_pictures_rows_and_reasons(source, framing):
    batch = load(source, [3, 0, 2], framing)
    assert batch["image"].shape == (3, 32, 32, 3) and batch["image"].dtype == np.uint8
    assert batch["row"].tolist() == [3, 0, 2] and batch["row"].dtype == np.int64
    assert batch["reason"].tolist() == [0, 0, 0] and batch["reason"].dtype == np.int8
    assert all(image.any() for image in batch["image"])


@pytest.mark.parametrize("framing", [TRAIN, VAL])
def test_what_cannot_be_read_is_black_and_says_why(source, framing):
    batch = load(source, [4, 1, 5, 6, 7], framing)
    why = [REASONS[reason] for reason in batch["reason"]]
    assert why == ["not a picture", "", "damaged", "too small", "format"]
    assert [bool(image.any()) for image in batch["image"]] == [False, True, False, False, False]


@pytest.mark.parametrize("framing", [TRAIN, VAL])
def test_padding_is_black_and_not_damaged(source, framing):
    batch = load(source, [PADDING, 1, PADDING], framing)
    assert batch["row"].tolist() == [PADDING, 1, PADDING] and not batch["reason"].any()
    assert [bool(image.any()) for image in batch["image"]] == [False, True, False]
    assert not load(source, [PADDING], framing)["image"].any()


@pytest.mark.parametrize("framing", [TRAIN, VAL])
def test_a_picture_does_not_depend_on_its_batch(source, framing):
    together = load(source, [2, PADDING, 4, 0, 3], framing)["image"]
    for place, row in [(0, 2), (3, 0), (4, 3)]:
        assert np.array_equal(together[place], load(source, [row], framing)["image"][0])


def test_training_crops_change_with_epoch_and_seed_and_validation_s_do_not(source):
    first = load(source, [0, 1], TRAIN)["image"]
    assert np.array_equal(first, load(source, [0, 1], TRAIN)["image"])
    for other in (
        load(source, [0, 1], TRAIN, epoch=1)["image"],
        load(source, [0, 1], dataclasses.replace(TRAIN, seed=2))["image"],
    ):
        assert (first != other).any(axis=(1, 2, 3)).all()
    assert np.array_equal(load(source, [0], VAL)["image"], load(source, [0], VAL, epoch=1)["image"])


def test_validation_sees_the_centred_square(source):
    framing = dataclasses.replace(VAL, size=40)
    got = load(source, [1], framing)["image"][0]
    assert np.array_equal(got, noise(40, 50, 1)[:, 5:45])


def test_the_first_spare_that_can_be_read_takes_the_place(source):
    batch = load(source, [4, 1, 5], TRAIN, spares=[[5, 2, 3], [0, 0, 0], [4, 6, 7]])
    assert batch["row"].tolist() == [4, 1, 5]
    assert batch["seen"].tolist() == [2, 1, PADDING]
    assert [REASONS[r] for r in batch["reason"]] == ["not a picture", "", "damaged"]
    assert batch["image"][0].any() and not batch["image"][2].any()


def test_a_spare_is_cut_with_the_numbers_of_the_row_whose_place_it_takes(tmp_path):
    """So where a picture stands in twice, it is not the same crop twice."""
    picture = encode(noise(40, 50))
    write_parquet(tmp_path / "x.parquet", [b"", picture, picture])
    source = open_source(str(tmp_path))
    batch = load(source, [0, 1], TRAIN, spares=[[1], [2]])["image"]
    assert not np.array_equal(batch[0], batch[1])
    write_parquet(tmp_path / "y" / "y.parquet", [picture])
    own = load(open_source(str(tmp_path / "y")), [0], TRAIN)["image"]
    assert np.array_equal(batch[0], own[0])  # row 0's own numbers
