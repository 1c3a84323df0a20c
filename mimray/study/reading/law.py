"""A saturating power law of the validation loss in data, parameters and length.

    L(D, N, T) = E + shift of the source + a * D**-alpha + b * N**-beta + c * T**-gamma

with D, N and T in units of their geometric means in the table, so that a, b and c are losses. Data of
another source has a shift of its own, for the validation pictures are nearer to one source than to another
(the third paper validates ImageNet-22K's models on ImageNet-1K).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimray.study.reading.table import Run

FACTORS = ("data", "model", "length")


@dataclass(frozen=True)
class Term:
    """`coefficient * (size / unit)**-exponent`. `assumed`: the exponent is not from the table."""

    coefficient: float
    exponent: float
    unit: float
    assumed: bool

    def at(self, size: float) -> float:
        """The part of the loss that ever more of this factor would take away."""
        return float(self.coefficient * (size / self.unit) ** -self.exponent)


@dataclass(frozen=True)
class Law:
    """`floor` is E; `terms` by factor; `shifts` by source, 0 for the one that most runs are of."""

    floor: float
    terms: dict[str, Term]
    shifts: dict[str, float]

    def predict(self, run: Run) -> float:
        """The validation loss of a run of this source, size and length."""
        sizes = sizes_of(run)
        terms = (term.at(sizes[factor]) for factor, term in self.terms.items())
        return self.floor + self.shifts[run.source] + math.fsum(terms)

    def doubling(self, factor: str, run: Run) -> float:
        """Change of the validation loss by twice as much of a factor as this run has."""
        size = sizes_of(run)[factor]
        return self.terms[factor].at(2 * size) - self.terms[factor].at(size)


def sizes_of(run: Run) -> dict[str, float]:
    """Pictures, parameters and iterations by factor; nan for what is not known."""
    sizes = (run.images, run.parameters, float(run.iterations))
    return {f: math.nan if s is None else s for f, s in zip(FACTORS, sizes, strict=True)}
