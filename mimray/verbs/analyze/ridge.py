"""`mimray analyze ridge SWEEP|FOLDER`: what a sweep's runs are worth over the AvgDist of their masks."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

from mimray.data.files import join
from mimray.errors import UserError
from mimray.evaluate.table_files import table_files, write_files
from mimray.study.sweeps.ridge import COLUMNS, RIDGE, Ridge, read_ridge
from mimray.train.run_folder import to_json
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Write table and figure beside the runs, and print the table."""
    from mimray.report.ridge import ridge_figure

    found = read_ridge(arguments.sweep, arguments.overrides, arguments.finetuned)
    score = "top1" if found.finetuned is not None else "skill"
    told = " ".join([*(row["run"] for row in found.rows), str(found.finetuned)])
    name = f"ridge-{found.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    place = join(found.storage, "analyses", name)
    about: dict[str, Any] = {
        "name": name,
        "uri": place,
        "score": score,
        "finetuned": found.finetuned,
        "ridge_px_at_192": list(RIDGE),
        "notes": _notes(found),
    }
    files = table_files(found.rows, COLUMNS, **about)
    figure = ridge_figure(found.rows, _title(found), score, RIDGE, _conventions(found))
    if figure is not None:
        files["ridge.png"] = figure
    try:
        write_files(place, files)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({str(error).splitlines()[0]})") from None
    if arguments.json:
        print(to_json({**about, "rows": found.rows}), flush=True)
    else:
        _print(found, score)
        screen().print(f"{place}/{', '.join(sorted(files))}")
    return 0


def _title(found: Ridge) -> str:
    return f"{found.name}: " + (f"fine-tuned by {found.finetuned}" if found.finetuned else "skill")


def _conventions(found: Ridge) -> dict[str, str]:
    """For under the figure."""
    sizes = ", ".join(str(size) for size in sorted({row["image_size"] for row in found.rows}))
    told = {"AvgDist": f"of pictures of {sizes} px, scaled to the 192 px of the paper's ridge"}
    if found.finetuned is not None:
        told["top-1"] = "after the last epoch; mean and sample standard deviation over seeds"
    if any(row["attention_distance_px"] is not None for row in found.rows):
        told["attention distance"] = (
            "mean over all heads, of the latest step analysed; a class token dropped"
        )
    return told | {"numbers": "mask ratio"}


def _notes(found: Ridge) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    rows = found.rows
    notes = [
        f"The paper states its ridge of {RIDGE[0]:g} to {RIDGE[1]:g} px at 192 px; AvgDist is scaled to "
        "that size."
    ]
    scored = sum(row["top1"] is not None for row in rows)
    if found.finetuned is None:
        notes.append(
            "None of these runs is fine-tuned, so skill stands for what they are worth: it compares "
            "across masks roughly, and a loss does not at all. `mimray finetune RECIPE --from RUN`"
        )
    elif scored < len(rows):
        notes.append(f"{scored} of {len(rows)} runs are fine-tuned by {found.finetuned}.")
    if found.others:
        notes.append(
            f"Left out, for they do not compare: fine-tunings by {', '.join(found.others)}."
        )
    if not any(row["attention_distance_px"] for row in rows):
        notes.append("None was looked into: `mimray analyze attention --from RUN` gives distances.")
    return notes


def _print(found: Ridge, score: str) -> None:
    from rich.table import Table

    out = screen()
    shown = Table(box=None, pad_edge=False)
    for name in ("run", "mask", "unit", "ratio", "AvgDist", "at 192 px"):
        shown.add_column(name, justify="left" if name in ("run", "mask") else "right")
    shown.add_column("fine-tuned top-1" if score == "top1" else "skill", justify="right")
    shown.add_column("attention distance", justify="right")
    for row in found.rows:
        looks = row["attention_distance_px"]
        shown.add_row(
            row["run"],
            row["strategy"],
            str(row["unit"]),
            f"{row['ratio']:g}",
            f"{row['avgdist_px']:.1f} px",
            f"{row['avgdist_px_at_192']:.1f} px{' *' if row['on_ridge'] else '  '}",
            _score(row, score),
            "-" if looks is None else f"{looks:.1f} px",
        )
    out.print(shown)
    out.print(f"* on the ridge, {RIDGE[0]:g} to {RIDGE[1]:g} px")
    for note in _notes(found)[1:]:
        out.print(note)


def _score(row: dict[str, object], score: str) -> str:
    value, spread = row[score], row.get(f"{score}_spread")
    if not isinstance(value, float):
        return "-" if row["status"] == "finished" else f"- ({row['status']})"
    if score == "skill":
        return f"{value:+.3f}"
    return f"{value:.2%}" + (f" ± {100 * spread:.2f}" if isinstance(spread, float) else "")
