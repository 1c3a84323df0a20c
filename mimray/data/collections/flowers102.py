"""Oxford 102 Flowers (Nilsback and Zisserman, 2008)."""

from __future__ import annotations

import numpy as np

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_SPLITS = {"train": ("trnid", "valid"), "test": ("tstid",)}


def _read(place: Place, split: Split) -> Source:
    """Classes have numbers only, from 1."""
    every = place.integers("imagelabels.mat", place.mat("imagelabels.mat", "labels"))
    chosen = np.concatenate([place.mat("setid.mat", name) for name in _SPLITS[split]])
    ids = place.integers("setid.mat", chosen)
    if ids.min() < 1 or ids.max() > len(every):
        raise place.error(
            f"{place.folder / 'setid.mat'}: not all its numbers are in 1..{len(every)}"
        )
    classes = [str(number) for number in range(1, len(np.unique(every)) + 1)]
    return place.source(
        [f"jpg/image_{number:05d}.jpg" for number in ids], every[ids - 1] - 1, classes
    )


FLOWERS102 = Collection(
    name="flowers102",
    title="Oxford 102 Flowers",
    page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    folders=("102flowers", "flowers-102"),
    layout=("imagelabels.mat", "setid.mat", "jpg/image_*.jpg"),
    classes=102,
    metric="mean_per_class",
    read=_read,
    lists=("imagelabels.mat", "setid.mat"),
)
