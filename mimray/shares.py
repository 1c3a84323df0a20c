"""Shares of a whole as people write them: `10%` or `0.1`."""

from __future__ import annotations

import math


def share(text: str) -> float:
    """The number; NaN for a text that is none. Whether it is a share of something is for others to say."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return math.nan


def labels_share(labels: str | None) -> float:
    """The share of labels that `--labels` or `data.labels` means: 1 where all are."""
    return 1.0 if labels is None else share(labels)


def of_labels(labels: str | None) -> str:
    """The end of a metric's name: scores with fewer labels are no scores with all of them."""
    fraction = labels_share(labels)
    return "" if fraction == 1.0 else f"_labels_{fraction:g}"
