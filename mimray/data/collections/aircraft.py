"""FGVC-Aircraft (Maji et al., 2013), by variant, the finest of its three levels."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source


def _read(place: Place, split: Split) -> Source:
    path = f"data/images_variant_{'trainval' if split == 'train' else 'test'}.txt"
    rows = place.rows(path, 2)
    classes = place.lines("data/variants.txt")
    labels = place.numbers(path, [variant for _, variant in rows], classes)
    return place.source([f"data/images/{name}.jpg" for name, _ in rows], labels, classes)


AIRCRAFT = Collection(
    name="aircraft",
    title="FGVC-Aircraft",
    page="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    folders=("fgvc-aircraft-2013b",),
    layout=(
        "data/variants.txt",
        "data/images_variant_{trainval,test}.txt",
        "data/images/*.jpg",
    ),
    classes=100,
    metric="mean_per_class",
    read=_read,
)
