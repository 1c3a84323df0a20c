"""Oxford-IIIT Pet (Parkhi et al., CVPR 2012), by breed."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}


def _read(place: Place, split: Split) -> Source:
    """A line is a picture's name, its breed from 1, cat or dog, and a number within those."""
    listed = {path: place.rows(path, 4) for path in _LISTS.values()}
    number = {path: place.integers(path, [row[1] for row in rows]) for path, rows in listed.items()}
    breeds = {
        int(breed): row[0].rpartition("_")[0]
        for path, rows in listed.items()
        for breed, row in zip(number[path], rows, strict=True)
    }
    classes = [breeds.get(breed, f"breed {breed}") for breed in range(1, len(breeds) + 1)]
    path = _LISTS[split]
    return place.source([f"images/{row[0]}.jpg" for row in listed[path]], number[path] - 1, classes)


PETS = Collection(
    name="pets",
    title="Oxford-IIIT Pet",
    page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    folders=("oxford-iiit-pet", "pets"),
    layout=("annotations/{trainval,test}.txt", "images/BREED_*.jpg"),
    classes=37,
    metric="mean_per_class",
    read=_read,
    lists=("annotations/trainval.txt", "annotations/test.txt"),
)
