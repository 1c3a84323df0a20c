"""`mimray study report TABLE`: sentences, predictions and figures from a study's table alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pyarrow import fs

from mimray.data.files import write_atomic
from mimray.errors import UserError
from mimray.report.study import curves
from mimray.report.study_proxy import (
    predicted_against_actual,
    score_against_loss,
    train_against_val,
)
from mimray.report.study_published import over_published
from mimray.study.reading.findings import Findings, analyse, known_predictions
from mimray.study.reading.published import published_table
from mimray.study.reading.report import as_json, as_markdown, figure_rows, prediction_table
from mimray.study.reading.sentences import sentences
from mimray.study.reading.table import TOP1, read_table
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Analyse, write figures and `report.md`, `report.json`, and print what was found."""
    found, said, files = make_report(arguments.table, arguments.out, arguments.over == "published")
    if arguments.json:
        print(json.dumps(as_json(found, said, files), allow_nan=False))
    else:
        print_report(found, said, files)
    return 0


def make_report(
    place: str, out: str | None = None, over: bool = False
) -> tuple[Findings, list[str], list[str]]:
    """What a table says, in sentences too, and the files that say it; `over`: over the published runs.

    Raises UserError in one line where there is no table, or one that says nothing.
    """
    table = read_table(place)
    folder = _folder(place, out, table.name)
    found = analyse(table)
    said = sentences(found)
    return found, said, _write(folder, found, said, _figures(found, over))


def _folder(table: str, out: str | None, name: str) -> Path:
    """Where to write, made before anything is computed. Raises UserError where that cannot be."""
    place = Path(table).expanduser().absolute()
    folder = place / "report" if place.is_dir() else Path("runs", "study", name).absolute()
    if out is not None:
        folder = Path(out).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}; give --out") from None
    return folder


def _figures(found: Findings, over: bool) -> dict[str, bytes]:
    """PNGs by file name."""
    rows, name = figure_rows(found.table), found.table.name
    tasks = [task for task in found.table.tasks if any(task in row["scores"] for row in rows)]
    drawn = {"curves.png": curves(rows, name, TOP1)}
    if tasks:
        drawn["score_against_loss.png"] = score_against_loss(rows, name, tasks)
    if found.train_correlations:
        drawn["train_against_val.png"] = train_against_val(rows, name)
    predictions = [asdict(one) for one in known_predictions(found)]
    if predictions:
        drawn["predicted.png"] = predicted_against_actual(predictions, name)
    if over:
        published = figure_rows(published_table())
        drawn["over_published.png"] = over_published(rows, published, name, TOP1)
    return drawn


def _write(
    folder: Path, found: Findings, said: Sequence[str], figures: dict[str, bytes]
) -> list[str]:
    """Every file whole or not at all; returns their paths."""
    names = [*figures, "report.md", "report.json"]
    files = [str(folder / name) for name in names]
    contents = [
        *figures.values(),
        as_markdown(found, said, list(figures)).encode(),
        json.dumps(as_json(found, said, names), indent=2, allow_nan=False).encode() + b"\n",
    ]
    try:
        for file, content in zip(files, contents, strict=True):
            write_atomic(fs.LocalFileSystem(), file, content)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; give --out") from None
    return files


def print_report(found: Findings, said: Sequence[str], files: Sequence[str]) -> None:
    """For people."""
    out = screen()
    for sentence in said:
        out.print(f"- {sentence}", markup=False)
    if not isinstance(found.predictions, str):
        out.print()
        for row in prediction_table(found.predictions):
            out.print(row, markup=False)
    out.print()
    for file in files:
        out.print(file, markup=False)
