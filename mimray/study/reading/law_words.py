"""The law in sentences: its formula, what its next doublings change, and which of them pays most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mimray.study.reading.findings import Findings
from mimray.study.reading.intervals import Interval, scaled
from mimray.study.reading.law import Both, Law, Term
from mimray.study.reading.scaling_law import FittedLaw
from mimray.study.reading.table import TOP1
from mimray.study.reading.wording import (
    VAL_LOSS,
    cannot_say,
    change,
    count,
    in_iterations,
    listed,
    loss,
    loss_change,
    score_change,
    size,
)

DOUBLED = {"length": "the length", "model": "the parameters", "data": "the pictures"}
_SYMBOLS = {"data": "D pictures", "model": "N parameters", "length": "T iterations"}
_FINE = " that do not over-fit"
_FLATTERED = ", flattered, for cells whose loss rose are left out"
_NOT_SHOWN = (
    "whether twice the length pays, for the loss is not sure to fall where no cell is left out"
)
_COST = (
    "Twice the length takes about twice the computing, twice the parameters mostly somewhat less, more "
    "pictures none; and the law knows nothing of over-fitting."
)
_MANY = {
    "length": "the longer the training",
    "model": "the larger the model",
    "data": "the more pictures",
}


def law_sentences(fitted: FittedLaw, found: Findings) -> list[str]:
    """The formula, what in it depends on what, a doubling of each factor from the law's reference, and
    which of them pays most, also where top-1 says otherwise."""
    chosen = bool(found.overfitting)
    shown = not chosen or _length_lowers(found)
    fine = _FINE if chosen else ""
    said = [
        _formula(fitted, fine),
        *(_dependence(fitted, both) for both in fitted.law.products),
        _next_doublings(fitted, chosen, shown),
        *_verdict(fitted, shown, fine, found),
    ]
    if "length" in fitted.law.terms and not shown:
        said.append(cannot_say(_NOT_SHOWN))
    return said


def _length_lowers(found: Findings) -> bool:
    """Whether the length lowers the loss where no cell is left out for having a higher one.

    On the most data, where there are several data sets: what over-fits does so there last.
    """
    by_factor = {gain.factor: gain for gain in found.gains}
    told = by_factor.get("length_most_data", by_factor.get("length"))
    return told is not None and _lowers(told.loss.interval)


# ----- the formula ----------------------------------------------------------------------------------------


def _formula(fitted: FittedLaw, fine: str) -> str:
    law = fitted.law
    floor = fitted.interval(lambda law: law.floor)
    between = f" ({loss(floor[0])} to {loss(floor[1])})" if floor else ""
    terms = "".join(_term(factor, term) for factor, term in law.terms.items())
    terms += "".join(_product(law, both) for both in law.products)
    symbols = listed(_symbol(factor, term) for factor, term in law.terms.items())
    shifts = [f"on {source} {loss_change(by)}" for source, by in law.shifts.items() if by]
    return (
        f"Law of the {count(fitted.runs, 'run')}{fine}: "
        f"L = {loss(law.floor)}{between}{terms}, for {symbols}; "
        f"{''.join(f'{shift}; ' for shift in shifts)}root mean square error {loss(fitted.residual)}."
    )


def _term(factor: str, term: Term) -> str:
    sign = "-" if term.coefficient < 0 else "+"
    assumed = " [exponent assumed]" if term.assumed else ""
    of = f"({_SYMBOLS[factor][0]}/{size(term.unit)})^-{term.exponent:.2f}"
    return f" {sign} {loss(abs(term.coefficient))} {of}{assumed}"


def _product(law: Law, both: Both) -> str:
    k = law.products[both]
    logs = "".join(f" ln({_SYMBOLS[f][0]}/{size(law.terms[f].unit)})" for f in both)
    return f" {'-' if k < 0 else '+'} {abs(k):.5f}{logs}"


def _dependence(fitted: FittedLaw, both: Both) -> str:
    """`both` are in the order of `FACTORS`, so the second is the one that is said to be worth more."""
    by, of = both
    once = math.log(2.0) ** 2  # what a doubling of both adds to a doubling of each
    value, bounds = fitted.law.products[both], fitted.interval(lambda law: law.products[both])
    more = "more" if value < 0 else "less"
    said = f"{_MANY[by].capitalize()}, the {more} twice {DOUBLED[of]} is worth"
    return f"{said}: {change('for each doubling', once * value, scaled(bounds, once), 'so few pairs')}."


def _symbol(factor: str, term: Term) -> str:
    if factor == "data" and term.unit <= 1.0:  # how many nobody told
        return "D the share of all pictures"
    return _SYMBOLS[factor]


# ----- what is next ---------------------------------------------------------------------------------------


def _next_doublings(fitted: FittedLaw, chosen: bool, length_shown: bool) -> str:
    at = fitted.reference
    said = []
    for factor in sorted(fitted.law.terms, key=lambda factor: fitted.doubling(factor)[0]):
        what, (value, bounds) = f"twice {DOUBLED[factor]}", fitted.doubling(factor)
        one = change(what, value, bounds, "so few pairs")
        if factor == "length" and chosen:
            one = (one if length_shown else f"{what} {loss_change(value)}") + _FLATTERED
        said.append(one)
    where = f"{at.model} on {at.data} at {in_iterations(at.iterations)}"
    lowest = ", the lowest that does not over-fit" if chosen else ""
    return f"Next, by the law, from {where}{lowest}, {VAL_LOSS} for {'; '.join(said)}."


def _verdict(fitted: FittedLaw, length_shown: bool, fine: str, found: Findings) -> list[str]:
    """Which doubling lowers the loss most; those that cannot be told from it share its place.

    The length wins only where it is shown to lower the loss; being flattered, it may always lose.
    """
    steps = {factor: fitted.doubling(factor) for factor in fitted.law.terms}
    if all(bounds is None for _, bounds in steps.values()):
        return [cannot_say(f"what pays next, with too few pairs{fine}")]
    able = [factor for factor in steps if factor != "length" or length_shown]
    paying = [factor for factor in able if _lowers(steps[factor][1])]
    if not paying:
        return [cannot_say("what pays next, for no doubling is sure to lower the validation loss")]
    best = min(paying, key=lambda factor: steps[factor][0])
    winners = [best, *(f for f in able if f != best and fitted.pays_more(best, f) is None)]
    more = _more_than(winners, fitted)
    if len(winners) == 1:
        most = f"Twice {DOUBLED[best]} lowers the loss most next{more and ',' + more}. {_COST}"
        return [most, *_by_top1(best, fitted, found)]
    which = cannot_say(
        f"which lowers the loss most next, twice {' or '.join(DOUBLED[f] for f in winners)}"
    )
    return [f"{which[:-1]}{more and f'; each does{more}'}. {_COST}"]


def _more_than(winners: Sequence[str], fitted: FittedLaw) -> str:
    beaten = [
        factor
        for factor in fitted.law.terms
        if factor not in winners and all(fitted.pays_more(winner, factor) for winner in winners)
    ]
    return f" more than twice {listed(DOUBLED[factor] for factor in beaten)}" if beaten else ""


def _by_top1(best: str, fitted: FittedLaw, found: Findings) -> list[str]:
    """Where top-1 rose more so far with another factor than with the best by the loss, and whether that is
    sure: their intervals do not overlap."""
    steps = {gain.factor: gain.scores[TOP1] for gain in found.gains if TOP1 in gain.scores}
    known = [factor for factor in fitted.law.terms if factor in steps]
    if best not in known:
        return []
    first = max(known, key=lambda factor: steps[factor].mean)
    if first == best:
        return []
    other, own = steps[first], steps[best]
    sure = other.interval and own.interval and other.interval[0] > own.interval[1]
    says = "says otherwise" if sure else "does not tell"
    say = score_change(TOP1, found.table)
    said = [
        change(f"of {DOUBLED[factor]}", steps[factor].mean, steps[factor].interval, "so few", say)
        for factor in (first, best)
    ]
    return [f"Top-1 {says}: per doubling so far, {listed(said)}."]


def _lowers(bounds: Interval | None) -> bool:
    return bounds is not None and bounds[1] < 0.0
