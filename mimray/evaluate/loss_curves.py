"""Training against validation loss within a run, and whether it over-fits.

On Data Scaling in MIM tells over-fitting by a validation loss that rises while training goes on, and it is
an earlier alarm than accuracy. The paper compares runs of different lengths; here is the same within one
run. Both losses wobble, so a rise counts where it is larger than the wobble.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

LEAST = 5
"""Evaluations below which a wobble cannot be told from a rise."""
SIGMAS = 4.0
"""Standard deviations of an evaluation that a rise must exceed: one run in fifty does of losses that stay
level but for noise, of 20 evaluations, and one in a thousand of those that fall."""
_SMALLEST = 1e-3  # a rise of less than this share of the loss matters to nobody
_MAD = 0.6745  # median of the absolute value of a standard normal variable

Verdict = Literal["over-fits", "rises", "holds", "unknown"]


@dataclass(frozen=True)
class Curves:
    """Points of (pictures seen, loss). `trend`: validation, each evaluation the median of it and its
    neighbours; `best`: the place of the lowest of these; `noise`: standard deviation of an evaluation;
    `train_at`: training loss at each evaluation, the mean since the one before, smoothed likewise."""

    train: list[tuple[int, float]]
    val: list[tuple[int, float]]
    trend: list[float]
    train_at: list[float | None]
    best: int
    noise: float
    verdict: Verdict

    @property
    def rise(self) -> float:
        """How far the trend ends above its lowest."""
        return self.trend[-1] - self.trend[self.best] if self.trend else 0.0

    @property
    def threshold(self) -> float:
        """The rise up to which it may be noise, or matters to nobody."""
        return max(SIGMAS * self.noise, _SMALLEST * abs(self.trend[self.best]))


def curves(rows: list[dict[str, Any]]) -> Curves:
    """Of the rows of `metrics.jsonl`. Losses that were not finite are left out.

    `over-fits`: the validation loss has risen, while the training loss fell; `rises`: training did not
    fall, so that something else is wrong; `holds`: no rise beyond the noise; `unknown`: of fewer than
    `LEAST` evaluations.
    """
    train, val = (_points(rows, name) for name in ("train/loss", "val/loss"))
    losses = [loss for _, loss in val]
    trend, noise = running_median(losses), noise_of(losses)
    best = min(range(len(trend)), key=trend.__getitem__, default=0)
    train_at = _between(train, [images for images, _ in val])
    found = Curves(train, val, trend, train_at, best, noise, "unknown")
    return found if len(val) < LEAST else replace(found, verdict=_verdict(found))


def _verdict(found: Curves) -> Verdict:
    if found.rise <= found.threshold:
        return "holds"
    before, after = found.train_at[found.best], found.train_at[-1]
    fell = before is not None and after is not None and after < before
    return "over-fits" if fell else "rises"


def _points(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["images"], row[name]) for row in rows if row.get(name) is not None]


def running_median(values: Sequence[float]) -> list[float]:
    """Each value's median with its two neighbours; the first and the last have that of the three nearest,
    so that one bad evaluation at the end is no rise."""
    starts = [max(0, min(place - 1, len(values) - 3)) for place in range(len(values))]
    return [statistics.median(values[start : start + 3]) for start in starts]


def noise_of(values: Sequence[float]) -> float:
    """Standard deviation of independent noise on a smooth curve, from its third differences, in which a
    curve of training all but vanishes; their median, so that a jump does not count. 0 of fewer than four
    values."""
    runs = zip(values, values[1:], values[2:], values[3:], strict=False)
    bends = [abs(a - 3 * b + 3 * c - d) for a, b, c, d in runs]
    return statistics.median(bends) / (_MAD * 20**0.5) if bends else 0.0


def _between(train: list[tuple[int, float]], ends: list[int]) -> list[float | None]:
    """Mean training loss up to each of `ends` from the one before, smoothed; None where there is none."""
    edges = zip([-1, *ends], ends, strict=False)
    means = [
        statistics.fmean(losses) if (losses := [y for x, y in train if a < x <= b]) else None
        for a, b in edges
    ]
    known = [mean for mean in means if mean is not None]
    smooth = iter(running_median(known))
    return [None if mean is None else next(smooth) for mean in means]


def sentence(found: Curves) -> str:
    """The verdict with its figures, for people."""
    if found.verdict == "unknown":
        return f"too few evaluations to tell over-fitting: {len(found.val)}, and it takes {LEAST}."
    lowest, last = found.trend[found.best], found.trend[-1]
    if found.verdict == "holds":
        return (
            f"no over-fitting: the median of the last three validation losses is {last:.4f}, and the "
            f"lowest of any three {lowest:.4f}."
        )
    wobble = f"{found.rise / found.noise:.0f} times" if found.noise else "far more than"
    rose = (
        f"validation loss has risen from {lowest:.4f} to {last:.4f} since {found.val[found.best][0]:,} "
        f"pictures, {wobble} its wobble of {found.noise:.4f}"
    )
    before, after = found.train_at[found.best], found.train_at[-1]
    known = before is not None and after is not None
    moved = f"from {before:.4f} to {after:.4f}" if known else "by an unknown amount"
    if found.verdict == "over-fits":
        return f"OVER-FITTING: {rose}, while training loss fell {moved}."
    return f"not over-fitting but worse: {rose}, and training loss did not fall ({moved})."
