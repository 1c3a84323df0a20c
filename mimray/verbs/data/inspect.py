"""`mimray data inspect URI`: what a source holds, and what to do about it."""

from __future__ import annotations

import argparse
import json
import warnings
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from mimray.data import sheet
from mimray.data.files import resolve, write_atomic
from mimray.data.inspect import (
    Look,
    evenly,
    in_class_order,
    look_at,
    rows_to_look_at,
    share_interval,
)
from mimray.data.sources import Source
from mimray.errors import UserError
from mimray.recipe import Data
from mimray.verbs.data import open_split
from mimray.verbs.data.findings import PERCENTILES, print_findings
from mimray.verbs.data.progress import Progress

_WINDOW = int(Data.model_fields["shuffle_window"].default)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, or one JSON object; draw the sheet where `--sheet` names a file."""
    if arguments.sheet is not None and not arguments.sheet.lower().endswith(".png"):
        raise UserError(f"--sheet {arguments.sheet}: name a file that ends in .png")
    source = open_split(arguments.uri, arguments.split)
    if not len(source):
        raise UserError(f"{arguments.uri}: its {len(source.parts())} file(s) hold no pictures")
    rows = rows_to_look_at(source, arguments.sample)
    cells = min(len(rows), sheet.COLUMNS * sheet.ROWS) if arguments.sheet is not None else 0
    shown = frozenset(rows[evenly(len(rows), cells)].tolist())
    looks = _look(source, rows, shown)
    found = {"uri": arguments.uri, "sheet": arguments.sheet} | _whole(source)
    found |= _sample(source, looks)
    if arguments.sheet is not None:
        _write_sheet(arguments.sheet, [look for look in looks if look.row in shown])
    if arguments.json:
        print(json.dumps(found))
    else:
        print_findings(found)
    return 0


def _look(source: Source, rows: np.ndarray, shown: frozenset[int]) -> list[Look]:
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the pixel cap is ours
    progress = Progress(len(rows), patience=2.0, plain=False)
    looks: list[Look] = []
    try:
        for part in look_at(source, rows, shown, sheet.CELL):
            looks += part
            progress.show(len(looks))
    finally:
        progress.clear()
    return looks


def _write_sheet(uri: str, looks: list[Look]) -> None:
    cells = [look.reason if look.thumbnail is None else look.thumbnail for look in looks]
    try:
        write_atomic(*resolve(uri), sheet.draw_sheet(cells))
    except OSError as error:
        raise UserError(f"--sheet {uri}: cannot be written: {error.strerror or error}") from None


def _whole(source: Source) -> dict[str, Any]:
    """What is known without looking at a picture."""
    parts, groups = source.parts(), source.groups
    return {
        "kind": source.kind,
        "digest": source.digest,
        "files": len(parts),
        "bytes": sum(part_size for _, part_size, _ in parts),
        "rows": len(source),
        "groups": {"count": len(groups), **(_spread(groups) or {})},
        "classes": _classes(source),
    }


def _classes(source: Source) -> dict[str, Any] | None:
    labels = source.labels()
    if labels is None:
        return None
    known = labels[labels >= 0]
    names = source.classes or []
    counts = np.bincount(known, minlength=len(names))
    names = names + [str(number) for number in range(len(names), len(counts))]
    return {
        "names": names,
        "pictures": counts.tolist(),
        "unlabelled": len(labels) - len(known),
        "in_order": in_class_order(labels, _WINDOW),
    }


def _sample(source: Source, looks: list[Look]) -> dict[str, Any]:
    """What the pictures that were looked at are like."""
    good = [look for look in looks if not look.reason]
    bad = [look for look in looks if look.reason]
    share = len(bad) / len(looks)
    low = high = share
    if len(looks) < len(source):
        rows = np.array([look.row for look in looks])
        group = np.searchsorted(np.cumsum(source.groups), rows, side="right")
        low, high = share_interval(np.array([bool(look.reason) for look in looks]), group)
    return {
        "looked_at": len(looks),
        "formats": dict(Counter(look.format for look in looks).most_common()),
        "modes": dict(Counter(look.mode for look in good).most_common()),
        "width": _spread([look.width for look in good]),
        "height": _spread([look.height for look in good]),
        "shorter_side": _spread([min(look.width, look.height) for look in good]),
        "pixels": _spread([look.width * look.height for look in good]),
        "picture_bytes": _spread([look.size for look in good]),
        "turned": sum(look.turned for look in good),
        "unreadable": {
            "count": len(bad),
            "share": share,
            "interval": [low, high],
            "reasons": dict(Counter(look.reason for look in bad).most_common()),
            "pictures": [
                {"row": look.row, "name": source.name(look.row), "reason": look.reason}
                for look in bad
            ],
        },
    }


def _spread(values: Any) -> dict[str, int] | None:
    if not len(values):
        return None
    found = np.percentile(values, list(PERCENTILES.values()), method="nearest")
    return dict(zip(PERCENTILES, (int(v) for v in found), strict=True))
