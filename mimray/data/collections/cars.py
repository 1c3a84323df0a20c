"""Stanford Cars (Krause et al., 2013)."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_LISTS = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}


def _read(place: Place, split: Split) -> Source:
    """The test's labels came apart from the development kit, whose own list of it has none."""
    rows = place.mat(_LISTS[split], "annotations")
    if not {"class", "fname"} <= set(rows.dtype.names or ()):
        raise place.error(f"{place.folder / _LISTS[split]}: no class and fname in its annotations")
    classes = [str(name) for name in place.mat("devkit/cars_meta.mat", "class_names")]
    labels = place.integers(_LISTS[split], rows["class"]) - 1
    return place.source([f"cars_{split}/{name}" for name in rows["fname"]], labels, classes)


CARS = Collection(
    name="cars",
    title="Stanford Cars",
    page="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    folders=("stanford_cars",),
    layout=(
        "devkit/cars_meta.mat",
        "devkit/cars_train_annos.mat",
        "cars_test_annos_withlabels.mat",
        "cars_{train,test}/*.jpg",
    ),
    classes=196,
    metric="top1",
    read=_read,
    lists=("devkit/cars_meta.mat", *_LISTS.values()),
)
