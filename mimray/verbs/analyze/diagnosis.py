"""`mimray analyze attention|cka|receptive-field|kernels|health|all --from CKPT ... --data URI`."""

from __future__ import annotations

import argparse

import numpy as np

from mimray.data.collections import open_pictures
from mimray.data.inspect import evenly
from mimray.errors import UserError
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.diagnosis import Analysis
from mimray.evaluate.diagnosis_kinds import KINDS, Kind
from mimray.evaluate.diagnosis_parts import Model, Pictures
from mimray.evaluate.diagnosis_shards import (
    Compute,
    compute_here,
    compute_on_ray,
    smallest_batch,
)
from mimray.evaluate.frozen import Record
from mimray.train.console import Console
from mimray.train.run_folder import to_json
from mimray.verbs.data.progress import Progress
from mimray.verbs.evaluate import check_writable, storage_of
from mimray.verbs.screen import screen

_ALL = "all"
_LARGEST = 4096  # pixels of a side, of which no more than a few pictures fit any memory


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, and print what came out, or one JSON object with `--json`."""
    analyses, left_out = _asked(arguments)
    waiting = [analysis for analysis in analyses if analysis.record() is None]
    for analysis in waiting:
        analysis.check()
    check_writable(storage_of(arguments.storage))
    console = Console()
    for line in (*left_out, *(line for analysis in waiting for line in analysis.left_out)):
        console.say(line)
    records = _run(analyses, arguments)
    if arguments.json:
        whole = {"analyses": records, "left_out": left_out}
        print(to_json(whole if arguments.action == _ALL else records[0]), flush=True)
        return 0
    for analysis, record in zip(analyses, records, strict=True):
        _print(record, analysis not in waiting)
    return 0


# ----- what is asked ------------------------------------------------------------------------------------


def _asked(arguments: argparse.Namespace) -> tuple[list[Analysis], list[str]]:
    """One of each kind, and a line for each model that `all` leaves out of one.

    Raises UserError where the kind that is asked for would leave out a comparison.
    """
    storage = storage_of(arguments.storage)
    models = _models(arguments)
    kinds, left_out = _kinds(arguments.action, models)
    pictures = None
    if any(kind.pictures for kind in kinds):
        pictures = _pictures(arguments, max(kind.least for kind in kinds))
    analyses = [
        Analysis(
            kind,
            tuple(model for model in models if kind.fits(model.checkpoint)),
            pictures if kind.pictures else None,
            {option: getattr(arguments, word) for option, word in kind.takes.items()},
            storage,
        )
        for kind in kinds
    ]
    if arguments.action != _ALL and analyses[0].left_out:
        raise UserError(analyses[0].left_out[0])
    return analyses, left_out


def _models(arguments: argparse.Namespace) -> tuple[Model, ...]:
    """By the name of their run or file; by the whole path where two have one name.

    Raises UserError for what is no checkpoint or is named twice, and for pictures too large for any.
    """
    if (arguments.image_size or 0) > _LARGEST:
        raise UserError(f"--image-size {arguments.image_size}: must be {_LARGEST} or less")
    given = (
        arguments.encoder,
        arguments.image_size,
        arguments.window,
        arguments.pretrained_windows,
    )
    opened = [open_checkpoint(weights, *given) for weights in arguments.weights]
    names = [one.name for one in opened]
    labels = [one.name if names.count(one.name) == 1 else one.weights for one in opened]
    if len(set(labels)) < len(labels):
        raise UserError("--from: one of the checkpoints is named twice")
    return tuple(map(Model, labels, opened))


def _kinds(action: str, models: tuple[Model, ...]) -> tuple[list[Kind], list[str]]:
    """The kind that is asked for, which all models must have; of `all`, those that any has."""
    if action != _ALL:
        for model in models:
            KINDS[action].check(model.checkpoint)
        return [KINDS[action]], []
    kinds = [kind for kind in KINDS.values() if any(kind.fits(m.checkpoint) for m in models)]
    left_out = [
        f"{model.label}: {model.checkpoint.encoder} has no attention; its kernels are looked at instead"
        for model in models
        if not KINDS["attention"].fits(model.checkpoint)
    ]
    return kinds, left_out


def _pictures(arguments: argparse.Namespace, least: int) -> Pictures:
    """Raises UserError where there are fewer than `least`, of a batch or in all."""
    why = f"; CKA needs {least}" if least > 1 else ""
    for word in ("images", "batch"):
        if getattr(arguments, word) < least:
            raise UserError(f"--{word} {getattr(arguments, word)} is too few{why}")
    source = open_pictures(arguments.data, arguments.split)
    total = len(source)
    if total < least:
        raise UserError(f"{arguments.data}: holds {total or 'no'} pictures{why if total else ''}")
    rows = evenly(total, min(arguments.images, total)).astype(np.int64)
    _check_batches(len(rows), arguments.batch, least)
    return Pictures(source, rows, arguments.batch, arguments.data, arguments.split)


def _check_batches(count: int, batch: int, least: int) -> None:
    """Raises UserError where the smallest of the batches would be left out."""
    if (smallest := smallest_batch(count, batch)) < least:
        enough = next(
            size for size in range(batch, count + 1) if smallest_batch(count, size) >= least
        )
        raise UserError(
            f"--batch {batch}: {count} pictures make batches of {smallest}, and CKA needs {least}; "
            f"take --batch {enough} or more"
        )


# ----- running it ---------------------------------------------------------------------------------------


def _run(analyses: list[Analysis], arguments: argparse.Namespace) -> list[Record]:
    """One after another, with one Ray for all, where anything is left to compute."""
    here = arguments.here or not any(analysis.missing() for analysis in analyses)
    with compute_here() if here else compute_on_ray() as compute:
        return [_run_one(analysis, compute) for analysis in analyses]


def _run_one(analysis: Analysis, compute: Compute) -> Record:
    from mimray.verbs.analyze.figures import DRAW

    progress = Progress(analysis.total, analysis.done)
    if analysis.record() is None:
        names = ", ".join(model.label for model in analysis.models)
        progress.say(f"{analysis.name}: {names}")
    try:
        return analysis.run(compute, DRAW[analysis.kind.name], progress.show)
    finally:
        progress.clear()


# ----- what came out ------------------------------------------------------------------------------------


def _print(record: Record, already: bool) -> None:
    """A line a model with the numbers that stand for it, and where the rest is."""
    from rich.table import Table

    out = screen()
    out.print(f"{record['name']}{' is finished' if already else ''}")
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    names = list(dict.fromkeys(name for model in record["models"] for name in model["summary"]))
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for model in record["models"]:
        table.add_row(model["label"], *(_number(model["summary"].get(name)) for name in names))
    out.print(table)
    if record["pictures"]:
        out.print(f"{record['pictures']} pictures of {record['data']}{_lost(record)}")
    out.print(f"{record['uri']}/{', '.join([*record['files'], 'result.json'])}")


def _lost(record: Record) -> str:
    """Which pictures are missing, and why."""
    unreadable, left_out = record["unreadable"], record["left_out"]
    told = f"; {unreadable} cannot be read" if unreadable else ""
    if left_out:
        told += f"; {left_out} left out, because too few of their batch can be read"
    return told


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
