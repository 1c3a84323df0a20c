"""SUN397 (Xiao et al., CVPR 2010), the first of its ten splits: 50 pictures of each class in both."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_LISTS = {"train": "Training_01.txt", "test": "Testing_01.txt"}


def _read(place: Place, split: Split) -> Source:
    """A picture is listed as /a/abbey/sun_x.jpg; a class is a folder of one to three names."""
    path = _LISTS[split]
    listed = place.lines(path)
    folders = place.lines("ClassName.txt")
    labels = place.numbers(path, [line.rpartition("/")[0] for line in listed], folders)
    classes = [folder.removeprefix("/").partition("/")[2] for folder in folders]
    return place.source([line.removeprefix("/") for line in listed], labels, classes)


SUN397 = Collection(
    name="sun397",
    title="SUN397",
    page="https://vision.princeton.edu/projects/2010/SUN/",
    folders=("SUN397",),
    layout=("ClassName.txt", "Training_01.txt", "Testing_01.txt", "LETTER/CLASS/sun_*.jpg"),
    classes=397,
    metric="top1",
    read=_read,
    lists=("ClassName.txt", *_LISTS.values()),
)
