"""What a study's table says, in plain sentences, each with its figures and 90 % intervals.

A statement whose interval spans zero is not made: the sentence says "cannot say" and what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from mimray.study.reading.advice import advice
from mimray.study.reading.correlation import Correlation, Point, line, off_others_line
from mimray.study.reading.extrapolation import Prediction, carried_error, covers, mean_error
from mimray.study.reading.findings import Findings, known_predictions
from mimray.study.reading.intervals import Interval
from mimray.study.reading.overfitting import Overfitting, split_runs
from mimray.study.reading.table import TOP1, Cell, Run, StudyTable
from mimray.study.reading.wording import (
    VAL_LOSS,
    cannot_say,
    count,
    in_iterations,
    listed,
    loss,
    loss_change,
    score_change,
    task_name,
)

_NAMED = 3  # of the cells that are left out
_OF = {
    "all": "",
    "not_overfitting": " of pairs that do not over-fit",
    "overfitting": " of pairs that over-fit",
}


def sentences(found: Findings) -> list[str]:
    """What is left out; over-fitting; what paid and pays next; what the loss predicts; extrapolation."""
    return [
        *_left_out(found.table),
        *_overfitting(found.table, list(found.overfitting.values())),
        *advice(found),
        *_proxy(found),
        *_extrapolation(found),
    ]


# ----- what is left out -----------------------------------------------------------------------------------


def _left_out(table: StudyTable) -> list[str]:
    every = len(table.runs) + len(table.diverged) + table.unfinished
    kinds = {
        f"diverged (a {VAL_LOSS} that is not finite)": table.diverged,
        f"not finished (no {VAL_LOSS})": table.waiting,
    }
    return [
        f"Left out: of {count(every, 'run')} {len(cells)} {what}: {_first(cells)}."
        for what, cells in kinds.items()
        if cells
    ]


def _first(cells: Sequence[Cell]) -> str:
    named = [f"{model} on {data} at {in_iterations(n)}" for model, data, n in cells[:_NAMED]]
    more = len(cells) - len(named)
    return listed([*named, f"{more} more"] if more else named)


# ----- over-fitting ---------------------------------------------------------------------------------------


def _overfitting(table: StudyTable, bad: Sequence[Overfitting]) -> list[str]:
    pairs = table.pairs()
    alone = sum(len(runs) == 1 for runs in pairs.values())
    said = []
    if alone < len(pairs):
        said = [_which(bad, len(pairs) - alone), *_falls(bad)]
    if alone:
        which = f"{count(alone, 'pair')} of a model and its data with one length only"
        said.append(cannot_say(f"whether longer training over-fits {which}"))
    return said


def _which(bad: Sequence[Overfitting], pairs: int) -> str:
    what = f"{count(pairs, 'pair')} of a model and its data"
    if not bad:
        return f"Of {what} none over-fits: longer training never raised the {VAL_LOSS}."
    where = []
    for step in sorted({one.rises[0] for one in bad}):
        models: dict[str, list[str]] = {}
        for one in bad:
            if one.rises[0] == step:
                by = ", then ".join(map(loss_change, one.raised_by))
                models.setdefault(one.data, []).append(f"{one.model} ({by})")
        on = "; ".join(f"{listed(names)} on {data}" for data, names in models.items())
        where.append(f"From {in_iterations(step[0])} to {in_iterations(step[1])}: {on}.")
    over_fit, their = ("over-fits", "its") if len(bad) == 1 else ("over-fit", "their")
    return (
        f"Of {what} {len(bad)} {over_fit}, which is to say that longer training raised {their} {VAL_LOSS}. "
        + " ".join(where)
    )


def _falls(bad: Sequence[Overfitting]) -> list[str]:
    falling = [f"{one.model} on {one.data}" for one in bad if one.falls]
    if not falling:
        return []
    if len(bad) == 1:
        return ["Its top-1 fell with longer training."]
    return [
        f"Of these {len(bad)}, top-1 fell with longer training in {len(falling)}: {listed(falling)}."
    ]


# ----- what the validation loss predicts -------------------------------------------------------------


def _proxy(found: Findings) -> list[str]:
    if not any(run.scores for run in found.table.runs):
        return [
            cannot_say(f"what the {VAL_LOSS} predicts, for no run has a score: add a column {TOP1}")
        ]
    said = []
    runs = split_runs(found.table)
    told = ("not_overfitting", "overfitting")
    kinds = told if any(runs[kind] for kind in told) else ("all",)
    for task, by_kind in found.correlations.items():
        for kind in kinds:
            if by_kind[kind].runs:
                said.append(_together(by_kind[kind], kind, task, VAL_LOSS))
            if kind != "overfitting" and _surely(by_kind[kind].spearman_interval):
                said += _on_a_line(runs[kind], task, found.table)
    for task, by_kind in found.train_correlations.items():
        for kind in kinds:
            if by_kind[kind].runs:
                said.append(_together(by_kind[kind], kind, task, "training loss"))
    return said


def _on_a_line(runs: Sequence[Run], task: str, table: StudyTable) -> list[str]:
    by_model: dict[str, list[Point]] = {}
    for run in runs:
        if task in run.scores:
            by_model.setdefault(run.model, []).append((run.val_loss, run.scores[task]))
    slope = line([point for own in by_model.values() for point in own])
    if slope is None:
        return []
    say = score_change(task, table)
    lower = f"There, a {VAL_LOSS} lower by 0.01 goes with {say(-0.01 * slope.slope)} of {task_name(task)}"
    within = off_others_line(list(by_model.values()))
    if within is None:
        return [
            f"{lower}; cannot say how far off another model's runs lie, with so few models or runs."
        ]
    return [
        f"{lower}; of another model's runs, 90 % lie within {say(within)[1:]} of the others' line."
    ]


def _surely(bounds: Interval | None) -> bool:
    return bounds is not None and not bounds[0] <= 0.0 <= bounds[1]


def _together(one: Correlation, kind: str, task: str, which: str) -> str:
    start = f"{which.capitalize()} and {task_name(task)} over {count(one.runs, 'run')}{_OF[kind]}"
    if one.pearson is None or one.spearman is None:
        return f"{start}: cannot say, with so few or so alike."
    figures = f"Spearman {one.spearman:.3f}, Pearson {one.pearson:.3f}"
    if one.spearman_interval is None:
        return f"{start}: {figures}, cannot say how sure with so few pairs."
    low, high = one.spearman_interval
    figures = f"Spearman {one.spearman:.3f} ({low:.3f} to {high:.3f}), Pearson {one.pearson:.3f}"
    if not _surely(one.spearman_interval):
        return f"{start}: cannot say whether they go together: {figures}."
    way = "the lower the one, the higher the other" if high < 0 else "they rise and fall together"
    return f"{start}: {way}: {figures}."


# ----- extrapolation ---------------------------------------------------------------------------------


def _extrapolation(found: Findings) -> list[str]:
    if isinstance(found.predictions, str):
        return [cannot_say(found.predictions)]
    before, last = map(in_iterations, found.table.lengths()[-2:])
    known = known_predictions(found)
    said = []
    error, carried = mean_error(known), carried_error(known)
    if error is not None and carried is not None:
        said.append(
            f"From its two shorter trainings and models of other sizes, a model's loss at {last} is "
            f"predicted with a mean error of {loss(error)} over {count(len(known), 'pair')} (the loss at "
            f"{before} taken as it is: {loss(carried)}); {sum(map(covers, known))} of {len(known)} lie "
            "in their 90 % intervals."
        )
    to_come = [_expected(one, found.table) for one in found.predictions if one.actual is None]
    return said + to_come + (_unless_overfit(found.table) if to_come else [])


def _expected(one: Prediction, table: StudyTable) -> str:
    longest = table.lengths()[-1]
    diverged = (one.model, one.data, longest) in table.diverged
    why = "which diverged on its way" if diverged else "not trained"
    came = "should have come" if diverged else "should come"
    said = f"{one.model} on {one.data}, {why} to {in_iterations(longest)}, {came} to {loss(one.predicted)}"
    if one.low is None or one.high is None:
        return f"{said}; cannot say how sure that is."
    return f"{said} ({loss(one.low)} to {loss(one.high)})."


def _unless_overfit(table: StudyTable) -> list[str]:
    """What the intervals of predictions leave out: how often a loss that fell before rose in the end."""
    *before, last = table.lengths()[-3:]
    losses = [{run.iterations: run.val_loss for run in runs} for runs in table.pairs().values()]
    fell = [own for own in losses if {*before, last} <= {*own} and own[before[0]] > own[before[1]]]
    rose = sum(own[last] > own[before[1]] for own in fell)
    return [
        f"That holds where longer training does not begin to over-fit: of {count(len(fell), 'pair')} whose "
        f"{VAL_LOSS} fell to {in_iterations(before[1])}, {rose} rose to {in_iterations(last)}."
    ]
