"""Which number of a run's record stands for a fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping


def finetuned_metric(final: Mapping[str, float], metric: str = "top1") -> str:
    """The name in a record's `final`: `val/top1_average` where weights were averaged, else `val/top1`.

    An average is what such a run's checkpoint gives to others. `metric`: top1 or mean_per_class.
    """
    average = f"val/{metric}_average"
    return average if average in final else f"val/{metric}"
