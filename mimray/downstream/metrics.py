"""Scores of recognition: top-1, mean per class, and the average precision of PASCAL VOC 2007.

All are shares between 0 and 1. Scores are (n, classes), the larger the surer. Of equal scores in a row
the first class is the prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor


def top1(scores: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest score is that of their label, int64 (n,)."""
    _check(scores, labels, 1)
    return _correct(scores, labels).double().mean().item()


def mean_per_class(scores: Tensor, labels: Tensor) -> float:
    """The mean over classes of the share of a class's rows that are right; labels int64 (n,).

    A class without a row does not count.
    """
    _check(scores, labels, 1)
    classes = scores.shape[1]
    rows = torch.bincount(labels, minlength=classes)
    right = torch.bincount(labels[_correct(scores, labels)], minlength=classes)
    there = rows > 0
    return (right[there] / rows[there].double()).mean().item()


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """The mean over classes of `average_precision`; labels (n, classes) of 1, 0 or -1.

    A class without a positive does not count. Raises ValueError where none has one.
    """
    _check(scores, labels, 2)
    there = (labels > 0).any(dim=0).nonzero().flatten().tolist()
    if not there:
        raise ValueError("no label is positive, so there is no precision to average")
    return sum(average_precision(scores[:, c], labels[:, c]) for c in there) / len(there)


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Of one class: scores (n,) and labels (n,), 1 positive, -1 negative, 0 difficult and left out.

    The mean, over recalls of 0, 0.1, ... 1, of the best precision at that recall or more. Of equal
    scores the earlier row comes first. Source: Everingham et al., The PASCAL Visual Object Classes
    Challenge, 2010, section 4.2; the VOC2007 development kit's `VOCevalcls.m`.
    """
    counts = labels != 0
    order = scores[counts].argsort(descending=True, stable=True)
    positive = labels[counts][order] > 0
    found = positive.cumsum(dim=0)
    precision = found.double() / torch.arange(1, len(found) + 1, device=found.device)
    best = precision.flip(0).cummax(dim=0).values.flip(0)  # at this recall or more
    # In integers, for a recall of 9 in 10 may be less than 9 * 0.1 in float32.
    tenths = torch.arange(11, device=found.device)
    reached = 10 * found[None] >= tenths[:, None] * found[-1]
    return best[reached.int().argmax(dim=1)].mean().item()


def _correct(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.argmax(dim=1) == labels


def _check(scores: Tensor, labels: Tensor, dimensions: int) -> None:
    """Raises ValueError where labels do not fit scores (n, classes)."""
    expected = scores.shape[:dimensions]
    if labels.shape != expected or len(labels) == 0:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not fit scores of {tuple(scores.shape)}; "
            "there is to be one for each row, and a row at least"
        )
