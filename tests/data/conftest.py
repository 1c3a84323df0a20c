"""Pictures made on the spot, and the photos that come with mimray."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mimray
from mimray.data.decode import decode
from mimray.data.node_cache import NodeCache
from mimray.data.sources import open_source
from mimray.errors import UserError

PICTURES = [f"picture {i}".encode() for i in range(23)]
"""Rows of a source, which does not look inside."""


def encode(array, format="PNG", **options):
    out = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(out, format, **options)
    return out.getvalue()


def noise(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_parquet(path, pictures, group=None, layout="struct"):
    """Rows with a label, in the Hugging Face layout or as plain binary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pictures
    if layout == "struct":
        column = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(pictures)]
    kind = {
        "struct": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
    }[layout]
    table = pa.table({"label": list(range(len(pictures))), "image": pa.array(column, kind)})
    pq.write_table(table, path, row_group_size=group or max(1, len(pictures)))


def refused(call, *arguments):
    """The one line of a UserError."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture(scope="session")
def photos():
    """Decoded photos of the validation split: uint8 (H, W, 3) each."""
    folder = Path(mimray.__file__).parent / "photos"
    source = open_source(f"{folder}/val-*.parquet", "val")
    return [decode(data) for data in source.read(range(12))]


@pytest.fixture(scope="session")
def train_photos():
    """Decoded photos of the training split, from all over it: uint8 (H, W, 3) each."""
    source = open_source("builtin:photos/train")
    return [decode(data) for data in source.read(np.arange(0, 800, 80))]


@pytest.fixture
def parquet(tmp_path):
    """`PICTURES` in two Parquet files of several row groups."""
    write_parquet(tmp_path / "b.parquet", PICTURES[10:], group=4)
    write_parquet(tmp_path / "a.parquet", PICTURES[:10], group=3)
    return open_source(str(tmp_path))


@pytest.fixture
def picture_folder(tmp_path):
    """A folder with pictures in it, and other files; and the pictures' names."""
    names = ["cats/2.JPG", "cats/10.jpeg", "dogs/deep/x.PNG", "a.webp", "b.gif", "naïve [1].jpg"]
    for name in [*names, "labels.csv", ".thumbnail.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path, sorted(names)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMRAY_CACHE", str(tmp_path / "cache"))
    cache = NodeCache(limit=2**20)
    yield cache
    cache.clear()
