"""Birdsnap (Berg et al., CVPR 2014): a list of addresses, and the pictures that can still be had."""

from __future__ import annotations

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source


def _read(place: Place, split: Split) -> Source:
    """Pictures of the list that are there; many are gone from where they were published.

    Others evaluate on what is there too (github.com/linusericsson/ssl-transfer, datasets/birdsnap.py).
    """
    species = {row["id"]: row["common"] for row in place.tabbed("species.txt", ("id", "common"))}
    test = {row["path"] for row in place.tabbed("test_images.txt", ("path",))}
    there = set(place.files("download/images"))
    pictures, names = [], []
    for row in place.tabbed("images.txt", ("path", "species_id")):
        path = f"download/images/{row['path']}"
        if path in there and (row["path"] in test) == (split == "test"):
            pictures.append(path)
            names.append(species.get(row["species_id"], row["species_id"]))
    classes = list(species.values())
    return place.source(pictures, place.numbers("images.txt", names, classes), classes)


BIRDSNAP = Collection(
    name="birdsnap",
    title="Birdsnap",
    page="https://thomasberg.org/",
    folders=("birdsnap",),
    layout=(
        "images.txt",
        "species.txt",
        "test_images.txt",
        "download/images/SPECIES/*.jpg (as get_birdsnap.py writes them)",
    ),
    classes=500,
    metric="top1",
    read=_read,
    partial=True,
)
