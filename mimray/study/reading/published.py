"""The 63 published runs of On Data Scaling in Masked Image Modeling, to lay other studies over.

`published.csv`: model, parameters, data, iterations, validation loss on ImageNet-1K and fine-tuned top-1,
transcribed from MODELHUB.md of https://github.com/microsoft/Swin-Transformer (MIT).
"""

from __future__ import annotations

from pathlib import Path

from mimray.study.reading.table import StudyTable, read_table

PUBLISHED = Path(__file__).with_name("published.csv")


def published_table() -> StudyTable:
    """The published runs as a study's table."""
    return read_table(str(PUBLISHED))
