"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary form; the Python form is pickles."""

from __future__ import annotations

from functools import partial

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.packed import PackedSource
from mimray.data.collections.place import Place
from mimray.data.sources import Source

_SIDE = 32  # pixels
_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_PICKLES = "is the Python version, pickles, which are not opened; take the binary version"
_TEN = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
_HUNDRED = {"train": ["train.bin"], "test": ["test.bin"]}


def _read(
    files: dict[str, list[str]], names: str, label_bytes: int, place: Place, split: Split
) -> Source:
    """`names`: the file with the classes' names. CIFAR-100 has two labels, the fine one last."""
    infos = place.infos(files[split])
    records = [infos[file] for file in files[split]]
    return PackedSource(str(place.folder), records, _SIDE, label_bytes, place.lines(names))


CIFAR10 = Collection(
    name="cifar10",
    title="CIFAR-10",
    page=_PAGE,
    folders=("cifar-10-batches-bin",),
    layout=("batches.meta.txt", "data_batch_{1..5}.bin", "test_batch.bin"),
    classes=10,
    metric="top1",
    read=partial(_read, _TEN, "batches.meta.txt", 1),
    refused=("cifar-10-batches-py", f"{_PICKLES}, cifar-10-binary.tar.gz,"),
)

CIFAR100 = Collection(
    name="cifar100",
    title="CIFAR-100",
    page=_PAGE,
    folders=("cifar-100-binary",),
    layout=("fine_label_names.txt", "train.bin", "test.bin"),
    classes=100,
    metric="top1",
    read=partial(_read, _HUNDRED, "fine_label_names.txt", 2),
    refused=("cifar-100-python", f"{_PICKLES}, cifar-100-binary.tar.gz,"),
)
