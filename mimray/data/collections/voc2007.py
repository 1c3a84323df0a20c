"""PASCAL VOC 2007 classification (Everingham et al., IJCV 2010): several classes to a picture."""

from __future__ import annotations

import numpy as np

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_LISTS = "ImageSets/Main"
_MEANING = {"1": 1, "-1": 0, "0": -1}  # VOC's there, not there, difficult


def _read(place: Place, split: Split) -> Source:
    part = "trainval" if split == "train" else "test"
    names = place.lines(f"{_LISTS}/{part}.txt")
    row = {name: number for number, name in enumerate(names)}
    labels = np.zeros((len(names), len(CLASSES)), dtype=np.int8)
    for number, name in enumerate(CLASSES):
        path = f"{_LISTS}/{name}_{part}.txt"
        marks = dict(place.rows(path, 2))
        if marks.keys() != row.keys() or not set(marks.values()) <= _MEANING.keys():
            raise place.error(
                f"{place.folder / path}: not a mark of 1, 0 or -1 for each picture of {part}.txt"
            )
        for picture, mark in marks.items():
            labels[row[picture], number] = _MEANING[mark]
    return place.source([f"JPEGImages/{name}.jpg" for name in names], labels, CLASSES)


VOC2007 = Collection(
    name="voc2007",
    title="PASCAL VOC 2007",
    page="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
    folders=("VOCdevkit/VOC2007",),
    layout=(
        "ImageSets/Main/{trainval,test}.txt",
        "ImageSets/Main/CLASS_{trainval,test}.txt",
        "JPEGImages/*.jpg (of both archives)",
    ),
    classes=20,
    metric="map11",
    read=_read,
    lists=(f"{_LISTS}/trainval.txt", f"{_LISTS}/test.txt"),
)
