"""The transfer suite's data sets as small folders in their real formats.

Pictures of a class share a colour, so that what looks at them can learn something.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from mimray.data.collections import COLLECTIONS, Collection
from mimray.data.collections.voc2007 import CLASSES as VOC_CLASSES

TRAIN, TEST = 2, 1  # pictures of each class
SIDE = 16  # pixels


def pixels(label: int, index: int, side: int = SIDE) -> np.ndarray:
    """uint8 (side, side, 3): the class's own colour, and a little noise."""
    colour = np.random.default_rng(label).integers(40, 216, 3)
    noise = np.random.default_rng([label, index]).integers(-20, 21, (side, side, 3))
    return (colour + noise).astype(np.uint8)


@cache
def jpeg(label: int, index: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(label, index)).save(out, "JPEG", quality=90)
    return out.getvalue()


def put(path: Path, label: int, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(label, index))


def text(path: Path, lines) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def rows(classes: int):
    """(label, index, whether it is trained on) of every picture."""
    return [(c, i, i < TRAIN) for c in range(classes) for i in range(TRAIN + TEST)]


def dtd(root, classes):
    lists = {"train1": [], "val1": [], "test1": []}
    for label, index, train in rows(classes):
        name = f"texture{label:03d}/texture{label:03d}_{index:04d}.jpg"
        put(root / "dtd/images" / name, label, index)
        lists[("train1", "val1")[index % 2] if train else "test1"].append(name)
    for name, listed in lists.items():
        text(root / f"dtd/labels/{name}.txt", listed)


def pets(root, classes):
    lists = {"trainval": [], "test": []}
    for label, index, train in rows(classes):
        name = f"Great_Breed{label:02d}_{index + 1}"
        put(root / f"oxford-iiit-pet/images/{name}.jpg", label, index)
        lists["trainval" if train else "test"].append(f"{name} {label + 1} 1 {label + 1}")
    for name, listed in lists.items():
        text(root / f"oxford-iiit-pet/annotations/{name}.txt", listed)


def aircraft(root, classes):
    data = root / "fgvc-aircraft-2013b/data"
    lists = {"trainval": [], "test": []}
    for label, index, train in rows(classes):
        name = f"{100 * label + index:07d}"
        put(data / f"images/{name}.jpg", label, index)
        lists["trainval" if train else "test"].append(f"{name} Type {label} A/B")
    text(data / "variants.txt", [f"Type {label} A/B" for label in range(classes)])
    for name, listed in lists.items():
        text(data / f"images_variant_{name}.txt", listed)


def food101(root, classes):
    lists = {"train": [], "test": []}
    for label, index, train in rows(classes):
        name = f"dish_{label}/{1000 + index}"
        put(root / f"food-101/images/{name}.jpg", label, index)
        lists["train" if train else "test"].append(name)
    text(root / "food-101/meta/classes.txt", [f"dish_{label}" for label in range(classes)])
    for name, listed in lists.items():
        text(root / f"food-101/meta/{name}.txt", listed)


def caltech101(root, classes):
    for label in range(classes):
        for index in range(30 + TEST):
            put(root / f"101_ObjectCategories/thing{label}/image_{index:04d}.jpg", label, index)
    (root / "101_ObjectCategories/thing0/tmp").write_bytes(b"")  # as in the background class


def sun397(root, classes):
    folder = [f"/a/place{label}" + "/outdoor" * (label % 2) for label in range(classes)]
    lists = {"Training_01": [], "Testing_01": []}
    for label, index, train in rows(classes):
        name = f"{folder[label]}/sun_{index}.jpg"
        put(root / f"SUN397{name}", label, index)
        lists["Training_01" if train else "Testing_01"].append(name)
    text(root / "SUN397/ClassName.txt", folder)
    for name, listed in lists.items():
        text(root / f"SUN397/{name}.txt", listed)


def birdsnap(root, classes):
    images, test = ["url\tmd5\tpath\tspecies_id\tnape_y"], ["path"]
    for label, index, train in rows(classes):
        name = f"Bird_{label}/{index}.jpg"
        put(root / f"birdsnap/download/images/{name}", label, index)
        images.append(f"http://a.b/{index}.jpg\t0\t{name}\t{label + 1}\t")
        test += [] if train else [name]
    images.append("http://a.b/gone.jpg\t0\tBird_0/gone.jpg\t1\t")
    species = [f"{c + 1}\tBird {c}\tAvis {c}\tBird_{c}" for c in range(classes)]
    text(root / "birdsnap/images.txt", images)
    text(root / "birdsnap/test_images.txt", test)
    text(root / "birdsnap/species.txt", ["id\tcommon\tscientific\tdir", *species])


def cars(root, classes):
    base = root / "stanford_cars"
    kind = [("bbox_x1", object), ("class", object), ("fname", object)]
    lists = {"train": [], "test": []}
    for label, index, train in rows(classes):
        split, name = "train" if train else "test", f"{100 * label + index:05d}.jpg"
        put(base / f"cars_{split}/{name}", label, index)
        lists[split].append((np.uint8(1), np.uint8(label + 1), name))
    (base / "devkit").mkdir(exist_ok=True)
    names = np.array([f"Car {label} 2012" for label in range(classes)], dtype=object)
    savemat(base / "devkit/cars_meta.mat", {"class_names": names})
    for path, split in (
        ("devkit/cars_train_annos.mat", "train"),
        ("cars_test_annos_withlabels.mat", "test"),
    ):
        savemat(base / path, {"annotations": np.array([lists[split]], dtype=kind)})


def flowers102(root, classes):
    base = root / "102flowers"
    labels, ids = [], {"trnid": [], "valid": [], "tstid": []}
    for number, (label, index, train) in enumerate(rows(classes), 1):
        put(base / f"jpg/image_{number:05d}.jpg", label, index)
        labels.append(label + 1)
        ids[("trnid", "valid")[index % 2] if train else "tstid"].append(number)
    savemat(base / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(base / "setid.mat", {k: np.array([v], dtype=np.uint16) for k, v in ids.items()})


def records(labels: list[tuple[int, ...]], first: int) -> bytes:
    """CIFAR's: labels, then red, green and blue."""
    made = (pixels(label[-1], first + i, 32).transpose(2, 0, 1) for i, label in enumerate(labels))
    return b"".join(bytes(n) + planes.tobytes() for n, planes in zip(labels, made, strict=True))


def cifar10(root, classes):
    base = root / "cifar-10-batches-bin"
    text(base / "batches.meta.txt", [*(f"thing{label}" for label in range(classes)), ""])
    labels = [(label,) for label in range(classes)]
    for batch in range(1, 6):
        (base / f"data_batch_{batch}.bin").write_bytes(records(labels[::-1], batch))
    (base / "test_batch.bin").write_bytes(records(labels, 6))


def cifar100(root, classes):
    base = root / "cifar-100-binary"
    text(base / "fine_label_names.txt", [f"thing{label}" for label in range(classes)])
    labels = [(label // 5, label) for label in range(classes)]
    (base / "train.bin").write_bytes(records(labels * TRAIN, 0))
    (base / "test.bin").write_bytes(records(labels, 7))


def voc2007(root, classes):
    """Every picture shows its own class; of the next one it has a difficult example."""
    base = root / "VOCdevkit/VOC2007"
    parts = {"trainval": [], "test": []}
    for label, index, train in rows(classes):
        put(base / f"JPEGImages/{10 * label + index:06d}.jpg", label, index)
        parts["trainval" if train else "test"].append((f"{10 * label + index:06d}", label))
    for part, listed in parts.items():
        text(base / f"ImageSets/Main/{part}.txt", [name for name, _ in listed])
        for number, name in enumerate(VOC_CLASSES):
            marks = {number: 1, (number - 1) % classes: 0}
            lines = [f"{picture} {marks.get(label, -1):2d}" for picture, label in listed]
            text(base / f"ImageSets/Main/{name}_{part}.txt", lines)


def inat2018(root, classes):
    base = root / "inat2018"
    lists = {"train": [], "val": []}
    for label, index, train in rows(classes):
        name = f"train_val2018/Aves/{label}/{index}.jpg"
        put(base / name, label, index)
        lists["train" if train else "val"].append((100 * label + index, name, label))
    for part, listed in lists.items():
        told = {
            "images": [{"id": n, "file_name": name} for n, name, _ in listed],
            "annotations": [{"id": n, "image_id": n, "category_id": c} for n, _, c in listed],
            "categories": [{"id": c, "name": f"Avis {c}"} for c in reversed(range(classes))],
        }
        (base / f"{part}2018.json").write_text(json.dumps(told))


def cog(root, classes, level=1):
    lists = {"train": [], "test": []}
    for label, index, train in rows(classes):
        name = f"n{level}{label:07d}/n{level}{label:07d}_{index}.JPEG"
        put(root / "cog/images" / name, label, index)
        lists["train" if train else "test"].append(f"/{name}" if index else name)
    for part, listed in lists.items():
        text(root / f"cog/cog_l{level}_{part}.txt", listed)


WRITERS = {
    **{f"cog_l{i}": lambda root, classes, i=i: cog(root, classes, i) for i in range(1, 6)},
    **{
        write.__name__: write
        for write in (
            *(food101, birdsnap, cars, aircraft, pets, caltech101, flowers102, dtd, sun397),
            *(cifar10, cifar100, voc2007, inat2018),
        )
    },
}


def small(name: str, root: Path, classes: int = 4) -> Collection:
    """Write a data set with fewer classes below `root`; what comes back opens it."""
    if name == "voc2007":
        classes = len(VOC_CLASSES)
    WRITERS[name](root, classes)
    return replace(COLLECTIONS[name], classes=classes)
