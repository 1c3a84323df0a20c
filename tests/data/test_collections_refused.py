"""What is missing or damaged in a data set: one line each, with where the set comes from."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from mimray.data.collections import COLLECTIONS
from tests.data.collection_fixtures import records, small, text
from tests.data.conftest import refused

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", COLLECTIONS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_root_is_refused_with_page_and_layout(name, split, tmp_path):
    collection = COLLECTIONS[name]
    line = refused(collection.open, tmp_path, split)
    assert collection.title in line and collection.page in line and str(tmp_path) in line
    assert f"{collection.folders[0]}/" in line and all(part in line for part in collection.layout)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_an_empty_folder_is_refused_with_page_and_path(name, tmp_path):
    collection = COLLECTIONS[name]
    (tmp_path / collection.folders[0]).mkdir(parents=True)
    line = refused(collection.open, tmp_path, "train")
    assert collection.title in line and str(tmp_path / collection.folders[0]) in line
    assert collection.page in line


@pytest.mark.parametrize(
    "name", sorted(COLLECTIONS.keys() - {"voc2007"})
)  # whose names are in the code
def test_fewer_classes_than_the_set_has_are_refused(name, tmp_path):
    small(name, tmp_path)
    line = refused(COLLECTIONS[name].open, tmp_path, "test")
    assert f"4 classes instead of {COLLECTIONS[name].classes}" in line


@pytest.mark.parametrize("name", sorted(COLLECTIONS.keys() - {"birdsnap", "caltech101"}))
def test_a_listed_file_that_is_not_there(name, tmp_path):
    collection = small(name, tmp_path)
    source = collection.open(tmp_path, "train")
    gone = tmp_path / collection.folders[0] / source.parts()[0][0]
    gone.unlink()
    line = refused(collection.open, tmp_path, "train")
    assert str(gone) in line and "1 of" in line and collection.page in line


def test_a_folder_of_pictures_that_is_not_there(tmp_path):
    collection = small("pets", tmp_path)
    images = tmp_path / "oxford-iiit-pet/images"
    images.rename(tmp_path / "elsewhere")
    assert "8 of 8 listed files are not there" in refused(collection.open, tmp_path, "train")
    images.write_bytes(b"")
    assert f"{images} is damaged" in refused(collection.open, tmp_path, "train")


def test_a_root_in_a_store():
    assert "local folder" in refused(COLLECTIONS["dtd"].open, "s3://bucket/sets", "train")


def test_an_unknown_split(tmp_path):
    assert "train and test" in refused(COLLECTIONS["dtd"].open, tmp_path, "val")


@pytest.mark.parametrize(
    ("name", "folder", "archive"),
    [
        ("cifar10", "cifar-10-batches-py", "cifar-10-binary.tar.gz"),
        ("cifar100", "cifar-100-python", "cifar-100-binary.tar.gz"),
    ],
)
def test_pickles_are_not_opened(name, folder, archive, tmp_path):
    (tmp_path / folder).mkdir()
    line = refused(COLLECTIONS[name].open, tmp_path, "train")
    assert "pickles" in line and archive in line and COLLECTIONS[name].page in line


def broken(name, path, content, expected, tmp_path):
    collection = small(name, tmp_path)
    file = tmp_path / collection.folders[0] / path
    file.write_bytes(content) if isinstance(content, bytes) else content(file)
    line = refused(collection.open, tmp_path, "train")
    assert expected in line and str(file) in line, line


@pytest.mark.parametrize(
    ("name", "path", "content", "expected"),
    [
        ("food101", "meta/train.txt", b"", "is empty"),
        ("food101", "meta/train.txt", b"dish_9/1000\n", "'dish_9' is not one of its 4 classes"),
        ("food101", "meta/train.txt", b"\xff\xfe\n", "damaged"),
        ("pets", "annotations/trainval.txt", b"Great_Breed00_1 1 1\n", "not 4 words"),
        ("pets", "annotations/trainval.txt", b"Great_Breed00_1 x 1 1\n", "damaged"),
        ("aircraft", "data/images_variant_trainval.txt", b"0000000 Type 77\n", "'Type 77'"),
        ("voc2007", "ImageSets/Main/cat_trainval.txt", b"000000  2\n", "mark of 1, 0 or -1"),
        ("voc2007", "ImageSets/Main/dog_trainval.txt", b"000000  1\n", "mark of 1, 0 or -1"),
        ("flowers102", "setid.mat", b"MATLAB 5.0", "damaged"),
        ("flowers102", "imagelabels.mat", lambda f: savemat(f, {"other": [1]}), "no variable"),
        ("flowers102", "imagelabels.mat", lambda f: savemat(f, {"labels": ["a"]}), "damaged"),
        ("flowers102", "setid.mat", lambda f: savemat(f, SETID), "not all its numbers"),
        ("cars", "devkit/cars_train_annos.mat", b"\0" * 500, "damaged"),
        (
            "cars",
            "devkit/cars_train_annos.mat",
            lambda f: savemat(f, NO_CLASS),
            "no class and fname",
        ),
        ("inat2018", "train2018.json", b'{"images": [', "damaged"),
        ("inat2018", "train2018.json", b'{"images": []}', "not in the form of COCO"),
        ("cifar10", "data_batch_3.bin", b"\0" * 3072, "not a whole number of records of 3,073"),
        ("cifar10", "data_batch_3.bin", b"", "not a whole number"),
        ("birdsnap", "images.txt", b"url\tmd5\n", "no columns path, species_id"),
        ("birdsnap", "species.txt", b"id\tcommon\n1\n", "not 2 fields"),
        ("sun397", "Training_01.txt", b"/z/zoo/sun_1.jpg\n", "'/z/zoo' is not one of"),
    ],
)
def test_damage_is_one_line_that_names_the_file(name, path, content, expected, tmp_path):
    broken(name, path, content, expected, tmp_path)


SETID = {"trnid": [99], "valid": [1], "tstid": [1]}
NO_CLASS = {"annotations": np.array([(1, "a")], dtype=[("bbox_x1", object), ("fname", object)])}


@pytest.mark.parametrize("name", ["food101", "cog_l2", "dtd"])
def test_a_class_missing_in_a_split(name, tmp_path):
    collection = small(name, tmp_path)
    path = {"food101": "meta/test.txt", "cog_l2": "cog_l2_test.txt", "dtd": "labels/test1.txt"}[
        name
    ]
    lists = tmp_path / collection.folders[0] / path
    text(lists, lists.read_text().split()[1:])
    line = refused(collection.open, tmp_path, "test")
    assert collection.title in line and "no pictures of class" in line and "(1 of 4" in line


def test_a_class_that_no_picture_shows(tmp_path):
    collection = small("voc2007", tmp_path)
    path = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/cat_test.txt"
    path.write_text(path.read_text().replace(" 1\n", " 0\n"))
    assert "no pictures of class 'cat'" in refused(collection.open, tmp_path, "test")


def test_a_label_out_of_range(tmp_path):
    collection = small("cifar10", tmp_path)
    batch = tmp_path / "cifar-10-batches-bin/data_batch_2.bin"
    batch.write_bytes(records([(0,), (7,)], 0))
    line = refused(collection.open, tmp_path, "train")
    assert "label 7 of data_batch_2.bin record 1 is not one of 0 to 3" in line


def test_a_category_that_is_not_listed(tmp_path):
    collection = small("inat2018", tmp_path)
    path = tmp_path / "inat2018/train2018.json"
    told = json.loads(path.read_text())
    told["annotations"][0]["category_id"] = 77
    path.write_text(json.dumps(told))
    assert "train_val2018/Aves/0/0.jpg is not one of 0 to 3" in refused(
        collection.open, tmp_path, "train"
    )


def test_a_class_of_caltech_with_too_few_pictures(tmp_path):
    collection = small("caltech101", tmp_path)
    for number in range(2):
        (tmp_path / f"101_ObjectCategories/thing1/image_{number:04d}.jpg").unlink()
    assert "no pictures of class 'thing1'" in refused(collection.open, tmp_path, "test")
