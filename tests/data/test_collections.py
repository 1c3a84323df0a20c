"""The transfer suite's data sets, read from small folders in their real formats."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mimray.data.collections import (
    COLLECTIONS,
    MultiLabelSource,
    check_pair,
    check_split,
    find_collection,
)
from mimray.data.decode import decode
from mimray.errors import UserError
from tests.data.collection_fixtures import TEST, TRAIN, WRITERS, pixels, small
from tests.data.conftest import refused

pytestmark = pytest.mark.unit

SINGLE = [name for name in COLLECTIONS if name != "voc2007"]


def per_class(name):
    return {"caltech101": (30, 1), "cifar10": (5, 1)}.get(name, (TRAIN, TEST))


def colour(data):
    return decode(data).reshape(-1, 3).mean(axis=0)


def test_the_suite_is_the_papers():
    assert list(WRITERS) == list(COLLECTIONS) and len(COLLECTIONS) == 18
    metrics = Counter(one.metric for one in COLLECTIONS.values())
    assert metrics == {"top1": 13, "mean_per_class": 4, "map11": 1}
    assert all(one.name == name for name, one in COLLECTIONS.items())


def test_the_documentation_has_every_page():
    told = (Path(__file__).parents[2] / "docs/transfer_sets.md").read_text()
    assert all(f"({one.page})" in told for one in COLLECTIONS.values())


@pytest.mark.parametrize("name", SINGLE)
def test_each_set_gives_its_pictures_with_their_labels(name, tmp_path):
    collection = small(name, tmp_path)
    train, test = (collection.open(tmp_path, split) for split in ("train", "test"))
    assert check_pair(train, test, collection.classes) == 4
    for source, count in zip((train, test), per_class(name), strict=True):
        labels = source.labels()
        assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [count] * 4
        assert source.groups.sum() == len(source) == sum(rows for *_, rows in source.parts())
        for row, data in enumerate(source.read(np.arange(len(source)))):
            own = pixels(int(labels[row]), 0).reshape(-1, 3).mean(axis=0)
            assert np.abs(colour(data) - own).max() < 5, source.name(row)
    assert train.classes == test.classes and len(set(train.classes)) == 4
    assert {train.name(r) for r in range(len(train))}.isdisjoint(
        {test.name(r) for r in range(len(test))}
    )


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("aircraft", ["Type 0 A/B", "Type 1 A/B"]),
        ("birdsnap", ["Bird 0", "Bird 1"]),
        ("cars", ["Car 0 2012", "Car 1 2012"]),
        ("cog_l3", ["n30000000", "n30000001"]),
        ("flowers102", ["1", "2"]),
        ("inat2018", ["Avis 0", "Avis 1"]),
        ("pets", ["Great_Breed00", "Great_Breed01"]),
        ("sun397", ["place0", "place1/outdoor"]),
    ],
)
def test_class_names(name, classes, tmp_path):
    assert small(name, tmp_path, 2).open(tmp_path, "train").classes == classes


@pytest.mark.parametrize("name", ["cars", "cifar10", "voc2007"])
def test_sources_are_sent_to_tasks(name, tmp_path):
    source = small(name, tmp_path).open(str(tmp_path), "test")
    sent = pickle.loads(pickle.dumps(source))
    assert sent.read(np.array([2, 0])) == source.read(np.array([2, 0]))
    assert sent.digest == source.digest == small(name, tmp_path).open(tmp_path, "test").digest


def test_a_set_with_all_its_classes(tmp_path):
    WRITERS["pets"](tmp_path, 37)
    source = COLLECTIONS["pets"].open(tmp_path, "train")
    assert len(source) == 74 and len(source.classes) == 37


def test_voc_has_several_labels_and_difficult_ones(tmp_path):
    collection = small("voc2007", tmp_path)
    train, test = (collection.open(tmp_path, split) for split in ("train", "test"))
    assert isinstance(train, MultiLabelSource) and train.labels() is None
    assert (len(train), len(test)) == (40, 20) and check_pair(train, test) == 20
    marks = test.multi_labels()
    assert marks.dtype == np.int8 and test.classes[6] == "car"
    assert np.array_equal(marks, np.eye(20) - np.roll(np.eye(20), 1, axis=1))


def test_cifar_keeps_every_pixel_and_takes_the_fine_label(tmp_path):
    collection = small("cifar100", tmp_path, 10)
    test = collection.open(tmp_path, "test")
    assert test.labels().tolist() == list(range(10))  # the coarse ones are 0 and 1
    assert np.array_equal(decode(test.read(np.array([9]))[0]), pixels(9, 16, 32))
    train = small("cifar10", tmp_path).open(tmp_path, "train")
    assert train.name(6) == "data_batch_2.bin record 2" and train.labels()[6] == 1
    wanted = np.array([19, 0, 6, 6])
    read = [decode(data) for data in train.read(wanted)]
    assert np.array_equal(read[0], pixels(0, 8, 32)) and np.array_equal(read[2], read[3])


def test_labels_and_class_names_are_part_of_the_digest(tmp_path):
    collection = small("aircraft", tmp_path)
    digests = [collection.open(tmp_path, "train").digest]
    for path, old, new in (
        ("images_variant_trainval.txt", "0000000 Type 0 ", "0000000 Type 1 "),
        ("variants.txt", "Type 3 A/B", "Type 4 A/B"),
        ("images_variant_trainval.txt", "Type 3 A/B", "Type 4 A/B"),
    ):
        file = tmp_path / "fgvc-aircraft-2013b/data" / path
        file.write_text(file.read_text().replace(old, new))
        if path != "variants.txt":
            digests.append(collection.open(tmp_path, "train").digest)
    assert len(set(digests)) == 3


def test_caltech_draws_the_same_thirty_everywhere(tmp_path):
    collection = small("caltech101", tmp_path)
    train, test = (collection.open(tmp_path, split) for split in ("train", "test"))
    assert len(train) == 4 * 30 and len(test) == 4
    assert [test.name(row) for row in range(4)] == [
        f"thing{label}/image_{number:04d}.jpg" for label, number in enumerate((9, 2, 10, 0))
    ]


def test_birdsnap_takes_the_pictures_that_can_still_be_had(tmp_path):
    collection = small("birdsnap", tmp_path)
    (tmp_path / "birdsnap/download/images/Bird_3/0.jpg").unlink()
    source = collection.open(tmp_path, "train")
    assert len(source) == 7 and source.labels().tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_a_species_of_birdsnap_may_have_lost_its_test_but_not_its_training(tmp_path):
    collection = small("birdsnap", tmp_path)
    pictures = tmp_path / "birdsnap/download/images/Bird_3"
    (pictures / "2.jpg").unlink()
    train, test = (collection.open(tmp_path, split) for split in ("train", "test"))
    assert check_split(test, 4).tolist() == [1, 1, 1, 0] and check_pair(train, test) == 4
    for number in (0, 1):
        (pictures / f"{number}.jpg").unlink()
    with pytest.raises(UserError, match=r"split train, .*no pictures of class 'Bird 3'"):
        collection.open(tmp_path, "train")


def test_pictures_behind_a_link(tmp_path):
    """ImageNet-21K lies elsewhere, and is linked to."""
    collection = small("cog_l1", tmp_path)
    images = (tmp_path / "cog/images").rename(tmp_path / "imagenet21k")
    (tmp_path / "cog/images").symlink_to(images)
    assert len(collection.open(tmp_path, "test").read(np.arange(4))) == 4


def test_torchvisions_nested_folder(tmp_path):
    small("dtd", tmp_path / "dtd")
    collection = small("dtd", tmp_path / "other")
    assert len(collection.open(tmp_path, "test")) == 4


def test_a_name_by_its_nearest():
    assert find_collection("dtd").title == "Describable Textures (DTD)"
    assert "did you mean flowers102" in refused(find_collection, "flowers")
