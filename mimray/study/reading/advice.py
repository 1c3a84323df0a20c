"""What paid and what pays next, in sentences: the table's last steps, and the law's next ones."""

from __future__ import annotations

from mimray.study.reading.findings import Findings
from mimray.study.reading.gains import CHOSEN_BY_LOSS, Change, Gain
from mimray.study.reading.law_words import DOUBLED, law_sentences
from mimray.study.reading.scaling_law import FittedLaw
from mimray.study.reading.table import StudyTable
from mimray.study.reading.wording import (
    VAL_LOSS,
    Say,
    cannot_say,
    change,
    count,
    in_iterations,
    listed,
    loss_change,
    score_change,
    task_name,
)

_NO_TEST = "no interval, for these cells are chosen by their loss"


def advice(found: Findings) -> list[str]:
    """A sentence for each step that the table shows, where the lowest loss is, and what the law says."""
    said = [_last_step(gain, found.table) for gain in found.gains]
    said += _lowest_overfits(found)
    if isinstance(found.law, FittedLaw):
        return said + law_sentences(found.law, found)
    return [*said, cannot_say(found.law)]


# ----- what paid ------------------------------------------------------------------------------------------


def _last_step(gain: Gain, table: StudyTable) -> str:
    changes: list[tuple[str, Change, Say]] = [(VAL_LOSS, gain.loss, loss_change)]
    for task, one in gain.scores.items():
        changes.append((task_name(task), one, score_change(task, table)))
    if gain.factor in CHOSEN_BY_LOSS:
        said = [f"{what} {say(one.mean)}" for what, one, say in changes]
        return f"{_step_name(gain)}: {'; '.join(said)} ({_NO_TEST})."
    few = "one data set only" if gain.factor == "model" else "one model only"
    said = [change(what, one.mean, one.interval, few, say) for what, one, say in changes]
    return f"{_step_name(gain)}: {'; '.join(said)}."


def _step_name(gain: Gain) -> str:
    before, after = listed(gain.before), listed(gain.after)
    cells = count(gain.steps, "comparison")
    if gain.factor == "source":
        return f"{after} in place of {before} ({cells})"
    factor, _, where = gain.factor.partition("_")
    doubled = f"per doubling of {DOUBLED[factor]}"
    if where == "overfitting":  # steps of all sizes
        return f"Where cells over-fit, {doubled} ({cells})"
    which = f"{doubled} ({before} to {after}, {cells})"
    if where == "not_overfitting":
        return f"Where cells do not over-fit, which is to say where the loss fell, {which}"
    if where == "most_data":
        return f"On the largest subset alone, {listed(gain.data)}, {which}"
    return f"So far, {which}"


# ----- where the lowest loss is ---------------------------------------------------------------------------


def _lowest_overfits(found: Findings) -> list[str]:
    """Nothing where the lowest loss is of a pair that does not over-fit: the law starts from there."""
    lowest = min(found.table.runs, key=lambda run: run.val_loss)
    if lowest.pair not in found.overfitting:
        return []
    more = [gain for gain in found.gains if gain.factor == "data_overfitting"]
    worth = f" (per doubling so far, {loss_change(more[0].loss.mean)})" if more else ""
    at = f"{lowest.model} on {lowest.data} at {in_iterations(lowest.iterations)}"
    return [f"The lowest {VAL_LOSS} is of {at}, which over-fits: more data first{worth}."]
