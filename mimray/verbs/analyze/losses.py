"""`mimray analyze losses RUN [RUN...]`: over-fitting, and the hardest and easiest validation pictures."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mimray.data.files import absolute, join
from mimray.environment import project_folder
from mimray.errors import UserError
from mimray.evaluate.frozen import absolute_data
from mimray.evaluate.loss_curves import SIGMAS, Curves, curves, sentence
from mimray.evaluate.picture_losses import Losses, Masked, look
from mimray.evaluate.table_files import Rows, table_files, write_files
from mimray.evaluate.workers import here, on_ray
from mimray.train.console import Console
from mimray.train.run_folder import RunFolder, to_json
from mimray.verbs.screen import screen

_COLUMNS = {
    **dict.fromkeys(("run", "verdict", "said"), pa.string()),
    "evaluations": pa.int64(),
    **dict.fromkeys(("best_val_loss", "last_val_loss", "rise", "noise"), pa.float64()),
    "best_images": pa.int64(),
}
_PICTURES = {
    "run": pa.string(),
    "row": pa.int64(),
    "path": pa.string(),
    **dict.fromkeys(("loss", "skill"), pa.float64()),
}


_MOST = 60  # pictures of a group: ten lines of a sheet
_RULE = {
    "over-fits": f"the median of three evaluations has risen by more than {SIGMAS:g} standard deviations "
    "of an evaluation above its lowest, while training loss fell"
}


def run(arguments: argparse.Namespace) -> int:
    """Write tables and figures, and print what they say."""
    from mimray.report.losses import loss_panels

    if arguments.data is not None and arguments.pictures is None:
        raise UserError("--data goes with --pictures N, which looks at them")
    if (arguments.pictures or 0) > _MOST:
        raise UserError(f"--pictures {arguments.pictures}: a sheet shows at most {_MOST} of each")
    storage = absolute(arguments.storage or str(project_folder() / "runs"))
    runs = {run.uri: run for run in (_find(word, storage) for word in arguments.runs)}
    found = {uri: curves(run.rows()) for uri, run in runs.items()}
    names = {uri: _name(run) for uri, run in runs.items()}
    if len(set(names.values())) < len(names):
        names = {uri: uri for uri in names}
    asked = {} if arguments.pictures is None else _masked(runs, arguments.data)
    told = " ".join([*runs, str(arguments.pictures), str(arguments.data)])
    place = join(storage, "analyses", f"losses-{hashlib.sha256(told.encode()).hexdigest()[:8]}")
    rows = [_row(names[uri], one) for uri, one in found.items()]
    files = {"losses.png": loss_panels({names[uri]: one for uri, one in found.items()}, _RULE)}
    result: dict[str, Any] = {"uri": place, "runs": rows}
    if asked:
        result["pictures"], more = _pictures(asked, names, arguments)
        files |= more
    files |= table_files(rows, _COLUMNS)
    _write(place, files)
    if arguments.json:
        print(to_json(result), flush=True)
    else:
        _print(result, files, arguments.pictures)
    return 0


def _find(word: str, storage: str) -> RunFolder:
    """By name under the storage, or by folder or URI."""
    named = RunFolder(join(storage, word)) if "/" not in word else None
    run = named if named is not None and named.record() is not None else RunFolder(word)
    if run.record() is None:
        raise UserError(f"no run {word!r}, in {storage} or as a folder; `mimray runs ls` has them")
    if not run.rows():
        raise UserError(f"{run.uri}: has no rows yet, so there are no losses")
    return run


def _name(run: RunFolder) -> str:
    record = run.record()
    assert record is not None, "it was found by it"
    return str(record["name"])


def _row(name: str, found: Curves) -> dict[str, Any]:
    return {
        "run": name,
        "verdict": found.verdict,
        "said": sentence(found),
        "evaluations": len(found.val),
        "best_val_loss": found.trend[found.best] if found.val else None,
        "last_val_loss": found.trend[-1] if found.val else None,
        "rise": found.rise if found.val else None,
        "noise": found.noise,
        "best_images": found.val[found.best][0] if found.val else None,
    }


# ----- pictures -----------------------------------------------------------------------------------------


def _masked(runs: dict[str, RunFolder], data: str | None) -> dict[str, Masked]:
    uri = None if data is None else absolute_data(data)
    return {
        name: Masked.open(run.path if run.local else run.uri, uri) for name, run in runs.items()
    }


def _pictures(
    asked: dict[str, Masked], names: dict[str, str], arguments: argparse.Namespace
) -> tuple[Rows, dict[str, bytes]]:
    """Hardest and easiest of each run, and the files: all pictures in a table, and a sheet a run."""
    from mimray.report.losses import picture_sheet

    console = Console()
    listed: Rows = []
    every: Rows = []
    files: dict[str, bytes] = {}
    with (here if arguments.here else lambda: on_ray(console.say))() as workers:
        for number, (uri, masked) in enumerate(asked.items(), start=1):
            losses = workers.call(look, masked)
            rows = _rows(names[uri], masked, losses)
            every += rows
            chosen = _ends(rows, arguments.pictures)
            groups = {name: _with_pixels(masked, own) for name, own in chosen.items()}
            skipped = f", {losses.unreadable} cannot be read" if losses.unreadable else ""
            title = f"{names[uri]}: mean loss {losses.mean:.4f} over {len(rows)} pictures{skipped}"
            sheet = picture_sheet(groups, title, masked.about)
            files[f"pictures-{number:02d}-{Path(names[uri]).name}.png"] = sheet
            listed += [{"which": name, **row} for name, own in chosen.items() for row in own]
    return listed, files | table_files(every, _PICTURES, "pictures")


def _ends(rows: Rows, most: int) -> dict[str, Rows]:
    """The first and the last of the rows, none of them in both; what there is none of is left out."""
    half = len(rows) // 2
    ends = {
        "hardest": rows[: min(most, len(rows) - half)],
        "easiest": rows[::-1][: min(most, half)],
    }
    return {name: own for name, own in ends.items() if own}


def _rows(name: str, masked: Masked, losses: Losses) -> Rows:
    """All pictures, the hardest first."""
    skill = losses.skill
    return [
        {
            "run": name,
            "row": int(losses.rows[place]),
            "path": masked.source.name(int(losses.rows[place])),
            "loss": float(losses.loss[place]),
            "skill": float(skill[place]) if np.isfinite(skill[place]) else None,
        }
        for place in np.argsort(-losses.loss, kind="stable")
    ]


def _with_pixels(masked: Masked, rows: Rows) -> list[tuple[np.ndarray, dict[str, Any]]]:
    pixels = masked.pictures(np.array([row["row"] for row in rows]))
    return list(zip(pixels, rows, strict=True))


# ----- what is left behind ------------------------------------------------------------------------------


def _write(place: str, files: dict[str, bytes]) -> None:
    try:
        write_files(place, files)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({str(error).splitlines()[0]})") from None


def _print(result: dict[str, Any], files: dict[str, bytes], most: int | None) -> None:
    from rich.table import Table

    out = screen()
    for row in result["runs"]:
        out.print(f"{row['run']}: {row['said']}")
    if most is not None:
        table = Table(box=None, pad_edge=False)
        for name in ("", "run", "row", "path", "loss", "skill"):
            table.add_column(name, justify="right" if name in ("row", "loss", "skill") else "left")
        for row in result["pictures"]:
            skill = "-" if row["skill"] is None else f"{row['skill']:+.3f}"
            words = (row["which"], row["run"], str(row["row"]), row["path"])
            table.add_row(*words, f"{row['loss']:.4f}", skill)
        out.print(table)
        out.print(
            "skill = 1 - loss / that of filling in the nearest visible pixel: below 0 is worse"
        )
    out.print(f"{result['uri']}/{', '.join(sorted(files))}")
