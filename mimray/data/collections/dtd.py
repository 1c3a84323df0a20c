"""Describable Textures (Cimpoi et al., CVPR 2014), the first of its ten splits."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_LISTS = {
    "train": ("labels/train1.txt", "labels/val1.txt"),
    "test": ("labels/test1.txt",),
}


def _read(place: Place, split: Split) -> Source:
    listed = {path: place.lines(path) for paths in _LISTS.values() for path in paths}
    classes = sorted({line.partition("/")[0] for lines in listed.values() for line in lines})
    pictures = [line for path in _LISTS[split] for line in listed[path]]
    textures = [line.partition("/")[0] for line in pictures]
    labels = place.numbers(_LISTS[split][0], textures, classes)
    return place.source([f"images/{line}" for line in pictures], labels, classes)


DTD = Collection(
    name="dtd",
    title="Describable Textures (DTD)",
    page="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    folders=("dtd", "dtd/dtd"),
    layout=("labels/{train1,val1,test1}.txt", "images/TEXTURE/*.jpg"),
    classes=47,
    metric="top1",
    read=_read,
)
