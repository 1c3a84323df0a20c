"""Food-101 (Bossard et al., ECCV 2014)."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source


def _read(place: Place, split: Split) -> Source:
    path = f"meta/{split}.txt"
    listed = place.lines(path)
    classes = place.lines("meta/classes.txt")
    labels = place.numbers(path, [line.partition("/")[0] for line in listed], classes)
    return place.source([f"images/{line}.jpg" for line in listed], labels, classes)


FOOD101 = Collection(
    name="food101",
    title="Food-101",
    page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    folders=("food-101",),
    layout=("meta/{classes,train,test}.txt", "images/DISH/*.jpg"),
    classes=101,
    metric="top1",
    read=_read,
)
