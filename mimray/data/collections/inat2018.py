"""iNaturalist 2018 (visipedia/inat_comp): 8,142 species, most of them rare.

Its test set has no public labels, so the validation pictures are the test, as in the papers.
"""

from __future__ import annotations

import numpy as np

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_LISTS = {"train": "train2018.json", "test": "val2018.json"}


def _read(place: Place, split: Split) -> Source:
    path = _LISTS[split]
    told = place.json(path)
    try:
        names = {int(one["id"]): str(one["name"]) for one in told["categories"]}
        pictures = {int(one["id"]): str(one["file_name"]) for one in told["images"]}
        pairs = [(int(one["image_id"]), int(one["category_id"])) for one in told["annotations"]]
        files = [pictures[image] for image, _ in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise place.error(f"{place.folder / path}: not in the form of COCO ({error!r})") from None
    number = {category: label for label, category in enumerate(sorted(names))}
    labels = np.array([number.get(category, -1) for _, category in pairs], dtype=np.int64)
    return place.source(files, labels, [names[category] for category in sorted(names)])


INAT2018 = Collection(
    name="inat2018",
    title="iNaturalist 2018",
    page="https://github.com/visipedia/inat_comp/tree/master/2018",
    folders=("inat2018",),
    layout=("train2018.json", "val2018.json", "train_val2018/KINGDOM/NUMBER/*.jpg"),
    classes=8142,
    metric="top1",
    read=_read,
    lists=tuple(_LISTS.values()),
)
