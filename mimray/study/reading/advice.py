"""What paid and what pays next, in sentences: the table's last steps, and the law's next ones."""

from __future__ import annotations

from mimray.study.reading.findings import Findings
from mimray.study.reading.gains import Gain
from mimray.study.reading.intervals import Interval
from mimray.study.reading.scaling_law import FittedLaw
from mimray.study.reading.table import StudyTable
from mimray.study.reading.wording import (
    VAL_LOSS,
    cannot_say,
    change,
    count,
    in_iterations,
    listed,
    loss,
    score_change,
    size,
    task_name,
)

_DOUBLED = {"length": "the length", "model": "the parameters", "data": "the pictures"}
_SYMBOLS = {"data": "D pictures", "model": "N parameters", "length": "T iterations"}
_COST = (
    "Twice the length or the parameters takes about twice the computing, more pictures none; and the law "
    "knows nothing of over-fitting."
)


def advice(found: Findings) -> list[str]:
    """A sentence for each step that the table shows, the law, its next doublings, and which pays most."""
    said = [_last_step(gain, found.table) for gain in found.gains]
    if isinstance(found.law, FittedLaw):
        return [*said, _formula(found.law), _next_doublings(found.law), _verdict(found.law)]
    return [*said, cannot_say(found.law)]


def _last_step(gain: Gain, table: StudyTable) -> str:
    changes = [change(VAL_LOSS, gain.loss.mean, gain.loss.interval)]
    for task, one in gain.scores.items():
        say = score_change(task, table)
        changes.append(change(task_name(task), one.mean, one.interval, say))
    return f"{_step_name(gain)}: {'; '.join(changes)}."


def _step_name(gain: Gain) -> str:
    before, after = listed(gain.before), listed(gain.after)
    cells = count(gain.steps, "comparison")
    if gain.factor == "data_overfitting":
        return f"Where cells over-fit, twice the pictures ({cells})"
    if gain.factor == "source":
        return f"{after} in place of {before} ({cells})"
    return f"So far, twice {_DOUBLED[gain.factor]} ({before} to {after}, {cells})"


def _formula(fitted: FittedLaw) -> str:
    terms = "".join(
        f" {'-' if term.coefficient < 0 else '+'} {loss(abs(term.coefficient))} "
        f"({_SYMBOLS[factor][0]}/{size(term.unit)})^-{term.exponent:.2f}"
        for factor, term in fitted.law.terms.items()
    )
    floor = fitted.interval(lambda law: law.floor)
    between = f", with a floor of {loss(floor[0])} to {loss(floor[1])}" if floor else ""
    return (
        f"Law of the {count(fitted.runs, 'run')} that do not over-fit: L = {loss(fitted.law.floor)}"
        f"{terms} ({listed(_SYMBOLS[factor] for factor in fitted.law.terms)}); root mean square error "
        f"{loss(fitted.residual)}{between}."
    )


def _next_doublings(fitted: FittedLaw) -> str:
    at = fitted.reference
    said = []
    by_gain = sorted(fitted.law.terms.items(), key=lambda item: fitted.doubling(item[0])[0])
    for factor, term in by_gain:
        curve = " (two sizes show no curve: for a range of exponents)" if term.assumed else ""
        said.append(change(f"twice {_DOUBLED[factor]}", *fitted.doubling(factor)) + curve)
    where = f"{at.model} on {at.data} at {in_iterations(at.iterations)}"
    return f"Next, by the law, from {where}, {VAL_LOSS} for {'; '.join(said)}."


def _verdict(fitted: FittedLaw) -> str:
    """Which doubling pays most; those that cannot be told from it share its place."""
    steps = {factor: fitted.doubling(factor) for factor in fitted.law.terms}
    paying = [factor for factor, (_, bounds) in steps.items() if _lowers(bounds)]
    if not paying:
        return cannot_say("what pays next, for no doubling is sure to lower the validation loss")
    best = min(paying, key=lambda factor: steps[factor][0])
    others = [factor for factor in steps if factor != best]
    level = [factor for factor in others if fitted.pays_more(best, factor) is None]
    beaten = [
        factor
        for factor in others
        if all(fitted.pays_more(winner, factor) for winner in (best, *level) if winner != factor)
    ]
    more = f", more than twice {_doubled(beaten)}" if beaten else ""
    if level:
        what = f"Twice {_doubled([best, *level])}: cannot say which pays most{more and ', each' + more[1:]}"
        return f"{what}. {_COST}"
    return f"Twice {_DOUBLED[best]} pays most next{more}. {_COST}"


def _lowers(bounds: Interval | None) -> bool:
    return bounds is not None and bounds[1] < 0.0


def _doubled(factors: list[str]) -> str:
    return listed(_DOUBLED[factor] for factor in factors)
