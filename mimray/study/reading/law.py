"""A saturating power law of the validation loss in data, parameters and length.

    L(D, N, T) = E + shift of the source + a * D**-alpha + b * N**-beta + c * T**-gamma

with D, N and T in units of their geometric means in the table, so that a, b and c are losses. Data of
another source has a shift of its own, for the validation pictures are nearer to one source than to another
(the third paper validates ImageNet-22K's models on ImageNet-1K).

Where the table shows that what one factor is worth depends on another (in the published runs a longer
training is worth more to a larger model), the law has a product k * ln N * ln T of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimray.study.reading.table import Run

FACTORS = ("data", "model", "length")
Both = tuple[str, str]
"""Two factors, in the order of `FACTORS`."""


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
    """`floor` is E; `terms` by factor; `shifts` by source, 0 for the one that most runs are of; `products`
    are the k of two factors."""

    floor: float
    terms: dict[str, Term]
    shifts: dict[str, float]
    products: dict[Both, float]

    def predict(self, run: Run) -> float:
        """The validation loss of a run of this source, size and length."""
        return self._at(sizes_of(run), self.shifts[run.source])

    def doubling(self, factor: str, run: Run) -> float:
        """Change of the validation loss by twice as much of a factor as this run has."""
        sizes = sizes_of(run)
        return self._at(sizes | {factor: 2 * sizes[factor]}) - self._at(sizes)

    def _at(self, sizes: dict[str, float], shift: float = 0.0) -> float:
        terms = [term.at(sizes[factor]) for factor, term in self.terms.items()]
        logs = {factor: math.log(sizes[factor] / term.unit) for factor, term in self.terms.items()}
        products = [k * logs[one] * logs[other] for (one, other), k in self.products.items()]
        return math.fsum([self.floor, shift, *terms, *products])


def sizes_of(run: Run) -> dict[str, float]:
    """Pictures, parameters and iterations by factor; nan for what is not known."""
    sizes = (run.images, run.parameters, float(run.iterations))
    return {f: math.nan if s is None else s for f, s in zip(FACTORS, sizes, strict=True)}
