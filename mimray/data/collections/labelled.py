"""Any other data set with labels: Parquet files, WebDataset tars or an image folder, by its URI."""

from __future__ import annotations

from mimray.data.collections.check import check_split
from mimray.data.collections.collection import Split
from mimray.data.sources import Source, open_source


def open_labelled(uri: str, split: Split, classes: int | None = None) -> Source:
    """One split of what `open_source` finds at a URI, once it can be classified.

    `classes`: how many there have to be; None takes what the labels say. 'test' takes what is called
    val, validation or test. Whether two splits fit together is for `check_pair`. Raises UserError as
    `open_source` and `check_split` do.
    """
    source = open_source(uri, "train" if split == "train" else "val")
    check_split(source, classes)
    return source
