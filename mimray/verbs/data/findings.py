"""What `mimray data inspect` found, as people read it."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from mimray.recipe import Data
from mimray.verbs.data.progress import print_fields, size

PERCENTILES = {"min": 0, "p5": 5, "median": 50, "p95": 95, "max": 100}
_LARGE = 512  # pixels of the shorter side from which preparing pays
_LARGE_GROUP = 256e6  # bytes
_MAX_DAMAGED = float(Data.model_fields["max_damaged"].default)
_NAMED = 10  # unreadable pictures that are named
_WINDOW = int(Data.model_fields["shuffle_window"].default)


def print_findings(found: dict[str, Any]) -> None:
    """One screen; `found` is the object of `--json`."""
    print(found["uri"])
    print_fields(_whole_fields(found))
    every = found["looked_at"] == found["rows"]
    print(
        f"\nlooked at {'all' if every else ''} {found['looked_at']:,} pictures".replace("  ", " ")
    )
    print_fields(_sample_fields(found))
    print()
    print("\n".join(_advice(found)))


def _whole_fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    groups = found["groups"]
    files = f"{found['files']:,} ({size(found['bytes'])})"
    if groups["max"] > 1:
        pieces = "row groups" if found["kind"] == "Parquet" else "pieces"
        files += f", {groups['count']:,} {pieces} of {groups['median']:,} pictures"
        files += " (median)" if groups["min"] != groups["max"] else ""
    fields = [("kind", found["kind"]), ("files", files), ("pictures", f"{found['rows']:,}")]
    fields.append(("digest", found["digest"]))
    classes = found["classes"]
    if classes is None:
        return [*fields, ("classes", "none")]
    names, counts = classes["names"], np.array(classes["pictures"])
    least, most = int(counts.argmin()), int(counts.argmax())
    text = f"{counts[least]:,} pictures each"
    if counts[least] < counts[most]:
        text = (
            f"{counts[least]:,} ({names[least]}) to {counts[most]:,} ({names[most]}) pictures each, "
            f"median {np.median(counts):,.0f}"
        )
    if classes["unlabelled"]:
        text += f"; {classes['unlabelled']:,} without a label"
    more = ", ..." if len(names) > 5 else ""
    fields.append(("classes", f"{len(names):,}: {', '.join(names[:5])}{more}"))
    return [*fields, ("", text)]


def _sample_fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    turned = f"{found['turned']:,} by a camera's note (EXIF); applied with data.upright=true"
    return [
        ("formats", _counts(found["formats"])),
        ("colours", _counts(found["modes"])),
        *(_size_fields(found) if found["width"] else []),
        ("turned", turned),
        *_unreadable_fields(found),
    ]


def _size_fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    head = "".join(f"{name:>9}" for name in ("min", "5 %", "median", "95 %", "max"))
    fields = [("", head)]
    for name, key, unit, form in (
        ("width", "width", 1, ",.0f"),
        ("height", "height", 1, ",.0f"),
        ("megapixels", "pixels", 1e6, ",.3g"),
        ("kilobytes", "picture_bytes", 1e3, ",.3g"),
    ):
        values = (found[key][point] / unit for point in PERCENTILES)
        fields.append((name, "".join(f"{value:>9{form}}" for value in values)))
    return fields


def _unreadable_fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    bad = found["unreadable"]
    text = f"{bad['count']:,}"
    if bad["count"]:
        text += f" ({_counts(bad['reasons'])})"
    if found["looked_at"] < found["rows"]:
        low, high = bad["interval"]
        text += f"; of all {100 * low:.2g} to {100 * high:.2g} % (95 % interval)"
    named = [("", f"{one['name']}: {one['reason']}") for one in bad["pictures"][:_NAMED]]
    if bad["count"] > len(named):
        named.append(("", f"and {bad['count'] - len(named):,} more"))
    return [("unreadable", text), *named]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _advice(found: dict[str, Any]) -> list[str]:
    """What to do next, a line each."""
    uri, bad, classes = shlex.quote(found["uri"]), found["unreadable"], found["classes"]
    lines = []
    if bad["count"] and bad["share"] <= _MAX_DAMAGED:
        lines.append(
            f"{bad['count']:,} pictures cannot be read ({bad['share']:.1%}); a run leaves them out and "
            f"names them (above data.max_damaged={_MAX_DAMAGED:g} it stops)"
        )
    elif bad["count"]:
        lines.append(
            f"{bad['share']:.1%} cannot be read: a run stops, unless data.max_damaged is raised; "
            f"`mimray data prepare` with --shorter-side leaves them out"
        )
    if found["shorter_side"] and found["shorter_side"]["median"] >= _LARGE:
        lines.append(
            f"the pictures are large: `mimray data prepare {uri} FOLDER --shorter-side 256` makes "
            f"them quicker to read and decode"
        )
    if found["bytes"] / found["groups"]["count"] > _LARGE_GROUP:
        lines.append(
            f"its row groups are large, and a run reads them whole: `mimray data prepare {uri} "
            f"FOLDER` makes smaller ones"
        )
    if classes and classes["in_order"]:
        lines.append(
            f"the pictures lie class by class: `mimray data prepare {uri} FOLDER --shuffle 0` mixes "
            f"them, which a run's shuffle of {_WINDOW:,} at a time cannot"
        )
    if found["sheet"] is None:
        lines.append("--sheet FILE.png draws some of them")
    else:
        lines.append(f"some of them: {found['sheet']}")
    lines.append(f"use it: mimray pretrain demo data.train={uri}")
    return lines
