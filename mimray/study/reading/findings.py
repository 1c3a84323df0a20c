"""All that is found in a study's table, before it is put into words, figures or JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mimray.study.reading.correlation import Correlation, correlations, train_loss
from mimray.study.reading.extrapolation import Prediction, extrapolate
from mimray.study.reading.gains import Gain, gains
from mimray.study.reading.intervals import CannotSay
from mimray.study.reading.overfitting import Overfitting, overfitting_pairs
from mimray.study.reading.scaling_law import FittedLaw, fit_law
from mimray.study.reading.table import Pair, StudyTable

T = TypeVar("T")


@dataclass(frozen=True)
class Findings:
    """`predictions` and `law` are sentences that say why, where the table does not tell them."""

    table: StudyTable
    overfitting: dict[Pair, Overfitting]
    correlations: dict[str, dict[str, Correlation]]
    train_correlations: dict[str, dict[str, Correlation]]
    gains: list[Gain]
    predictions: list[Prediction] | str
    law: FittedLaw | str


def analyse(table: StudyTable) -> Findings:
    """Everything that the table tells; a second or two for a study of a hundred runs."""
    trained = any(run.train_loss is not None for run in table.runs)
    return Findings(
        table,
        overfitting_pairs(table),
        correlations(table),
        correlations(table, train_loss) if trained else {},
        gains(table),
        _or_why(lambda: extrapolate(table)),
        _or_why(lambda: fit_law(table)),
    )


def known_predictions(found: Findings) -> list[Prediction]:
    """Those that came true or not: the pair has been trained to the longest length."""
    made = [] if isinstance(found.predictions, str) else found.predictions
    return [one for one in made if one.actual is not None]


def _or_why(find: Callable[[], T]) -> T | str:
    try:
        return find()
    except CannotSay as reason:
        return str(reason)
