"""Concept Generalisation (Sariyildiz et al., ICCV 2021): five levels of 1000 ImageNet-21K concepts.

Level 1 is nearest to the concepts of ImageNet-1K, level 5 farthest.
"""

from __future__ import annotations

from functools import partial

from mimray.data.collections.collection import Collection, Split
from mimray.data.collections.place import Place
from mimray.data.sources import Source


def _read(level: int, place: Place, split: Split) -> Source:
    """Labels number the concepts in order of their WordNet ids, as github.com/naver/cog does."""
    lists = {part: f"cog_l{level}_{part}.txt" for part in ("train", "test")}
    listed = {part: [line.lstrip("/") for line in place.lines(lists[part])] for part in lists}
    classes = sorted({line.partition("/")[0] for lines in listed.values() for line in lines})
    concepts = [line.partition("/")[0] for line in listed[split]]
    labels = place.numbers(lists[split], concepts, classes)
    return place.source([f"images/{line}" for line in listed[split]], labels, classes)


COG = tuple(
    Collection(
        name=f"cog_l{level}",
        title=f"ImageNet-CoG level {level}",
        page="https://europe.naverlabs.com/cog-benchmark",
        folders=("cog",),
        layout=(
            f"cog_l{level}_{{train,test}}.txt (docs/transfer_sets.md makes them of the official lists)",
            "images/WORDNET_ID/*.JPEG (or images, a link to ImageNet-21K, Winter 2021)",
        ),
        classes=1000,
        metric="top1",
        read=partial(_read, level),
        lists=(f"cog_l{level}_train.txt", f"cog_l{level}_test.txt"),
    )
    for level in range(1, 6)
)
