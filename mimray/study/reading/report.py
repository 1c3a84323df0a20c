"""A study's findings as JSON and as Markdown, and its runs as plain rows for the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from mimray.study.reading.correlation import Correlation
from mimray.study.reading.extrapolation import Prediction, mean_error
from mimray.study.reading.findings import Findings
from mimray.study.reading.intervals import LEVEL
from mimray.study.reading.law import Both, Law
from mimray.study.reading.overfitting import overfitting_pairs
from mimray.study.reading.scaling_law import FittedLaw
from mimray.study.reading.table import TOP1, StudyTable

_EXPONENTS = {"data": ("a", "alpha"), "model": ("b", "beta"), "length": ("c", "gamma")}


def as_json(found: Findings, said: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    """One object. `pearson` and `spearman` are of the validation loss with top-1, by kind of run; the
    kinds `all`, `not_overfitting` and `overfitting` hold the same with intervals, `tasks` all tasks."""
    top1 = found.correlations[TOP1]
    predictions = [] if isinstance(found.predictions, str) else found.predictions
    return {
        "name": found.table.name,
        "runs": len(found.table.runs),
        "unfinished": found.table.unfinished,
        "diverged": len(found.table.diverged),
        "level": LEVEL,
        "pearson": {kind: one.pearson for kind, one in top1.items()},
        "spearman": {kind: one.spearman for kind, one in top1.items()},
        **{kind: asdict(one) for kind, one in top1.items()},
        "tasks": _by_task(found.correlations),
        "train_loss": _by_task(found.train_correlations),
        "overfitting_cells": [asdict(one) for one in found.overfitting.values()],
        "extrapolation": [_prediction(one) for one in predictions],
        "extrapolation_mae": mean_error(predictions),
        "gains": [asdict(gain) for gain in found.gains],
        "law": None if isinstance(found.law, str) else _law(found.law, bool(found.overfitting)),
        "sentences": list(said),
        "files": list(files),
    }


def _by_task(correlations: dict[str, dict[str, Correlation]]) -> dict[str, Any]:
    return {
        task: {kind: asdict(one) for kind, one in by_kind.items()}
        for task, by_kind in correlations.items()
    }


def _prediction(one: Prediction) -> dict[str, Any]:
    return {key: value for key, value in asdict(one).items() if key != "carried"}


def _law(fitted: FittedLaw, left_out: bool) -> dict[str, Any]:
    """Numbers by the law's own letters. An exponent that is assumed is named under `assumed`; one that is
    flattered, for pairs are `left_out` because their loss rose with length, under `flattered`."""
    numbers = _numbers(fitted.law)
    intervals = {name: fitted.interval(partial(_number, name=name)) for name in numbers}
    at = fitted.reference
    doublings = {factor: fitted.doubling(factor) for factor in fitted.law.terms}
    return {
        **numbers,
        "intervals": intervals,
        "units": {factor: term.unit for factor, term in fitted.law.terms.items()},
        "shifts": fitted.law.shifts,
        "products": _products(fitted),
        "assumed": [_EXPONENTS[f][1] for f, term in fitted.law.terms.items() if term.assumed],
        "flattered": [_EXPONENTS["length"][1]] if left_out and "length" in fitted.law.terms else [],
        "runs": fitted.runs,
        "rms_error": fitted.residual,
        "next_from": {"model": at.model, "data": at.data, "iterations": at.iterations},
        "next_doubling": {
            factor: {"change": value, "interval": interval}
            for factor, (value, interval) in doublings.items()
        },
    }


def _products(fitted: FittedLaw) -> dict[str, Any]:
    def of(law: Law, both: Both) -> float:
        return law.products[both]

    return {
        " x ".join(both): {"coefficient": k, "interval": fitted.interval(partial(of, both=both))}
        for both, k in fitted.law.products.items()
    }


def _numbers(law: Law) -> dict[str, float]:
    numbers = {"E": law.floor}
    for factor, term in law.terms.items():
        coefficient, exponent = _EXPONENTS[factor]
        numbers |= {coefficient: term.coefficient, exponent: term.exponent}
    return numbers


def _number(law: Law, name: str) -> float:
    return _numbers(law)[name]


def as_markdown(found: Findings, said: Sequence[str], figures: Sequence[str]) -> str:
    """Sentences and figures (names of files beside it), with each prediction."""
    lines = [f"# {found.table.name}", "", *(f"- {sentence}" for sentence in said)]
    if not isinstance(found.predictions, str):
        lines += ["", *prediction_table(found.predictions)]
    lines += [f"\n![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in figures]
    return "\n".join(lines) + "\n"


def prediction_table(predictions: Sequence[Prediction]) -> list[str]:
    """A line of Markdown for each prediction."""
    lines = ["| model | data | predicted | 90 % interval | actual |", "|---|---|---|---|---|"]
    for one in predictions:
        between = "" if one.low is None or one.high is None else f"{one.low:.4f} to {one.high:.4f}"
        actual = "" if one.actual is None else f"{one.actual:.4f}"
        lines.append(f"| {one.model} | {one.data} | {one.predicted:.4f} | {between} | {actual} |")
    return lines


def figure_rows(table: StudyTable) -> list[dict[str, Any]]:
    """A plain row for each run, its top-1 in percent, and whether its pair over-fits."""
    bad, scale = overfitting_pairs(table), {TOP1: table.percent()}
    return [
        {
            "model": run.model,
            "data": run.data,
            "source": run.source,
            "parameters": run.parameters,
            "images": run.images,
            "iterations": run.iterations,
            "val_loss": run.val_loss,
            "train_loss": run.train_loss,
            "scores": {task: scale.get(task, 1.0) * score for task, score in run.scores.items()},
            "overfitting": run.pair in bad,
        }
        for run in table.runs
    ]
