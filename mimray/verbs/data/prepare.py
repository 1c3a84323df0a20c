"""`mimray data prepare SRC DST`: write Parquet shards, in parallel on Ray."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from mimray.data.decode import MIN_SIDE
from mimray.data.files import resolve
from mimray.data.prepare import (
    ROW_GROUP_SIZE,
    Destination,
    Plan,
    default_rows_per_shard,
    shuffle_window,
)
from mimray.data.sources import Source, open_source
from mimray.errors import Stopped, UserError
from mimray.verbs.data import open_split
from mimray.verbs.data.preparation import Preparation
from mimray.verbs.data.progress import print_fields, size

_QUALITY = 90


def run(arguments: argparse.Namespace) -> int:
    """Write the shards that are not there yet; prints what came out, or one JSON object."""
    _check(arguments)
    source = open_split(arguments.src, arguments.split)
    if not len(source):
        raise UserError(f"{arguments.src}: its {len(source.parts())} file(s) hold no pictures")
    plan = _plan(arguments, source)
    destination = Destination(arguments.dst, plan)
    lock = destination.claim()
    try:
        notes = Preparation(source, destination).run()
    except SystemExit:  # Ray's own answer to SIGTERM, while it starts or ends
        raise Stopped("stopped while Ray started or ended; the same command goes on") from None
    finally:
        if lock is not None:
            lock.close()
    result = _finish(arguments, destination, notes)
    if arguments.json:
        print(json.dumps(result), flush=True)
    else:
        _print(result, plan)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError for settings that cannot be meant."""
    for name, least, most in (
        ("shorter_side", MIN_SIDE, 65_500),
        ("quality", 1, 100),
        ("rows_per_shard", 1, 10**6),
        ("row_group_size", 1, 10**5),
        ("shuffle", 0, 2**31 - 1),
    ):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {least} to {most:,}")
    if arguments.quality is not None and arguments.shorter_side is None:
        raise UserError("--quality needs --shorter-side: without it no picture is encoded again")
    if arguments.src.startswith("builtin:"):
        return
    source, to = resolve(arguments.src), resolve(arguments.dst)
    folder = source[1].rstrip("/")
    if any(c in Path(folder).name for c in "*?["):
        folder = str(Path(folder).parent)
    if type(source[0]) is type(to[0]) and f"{to[1].rstrip('/')}/".startswith(f"{folder}/"):
        raise UserError(
            f"{arguments.dst} lies in {folder}, where the pictures come from; name another folder"
        )


def _plan(arguments: argparse.Namespace, source: Source) -> Plan:
    row_group_size = arguments.row_group_size or ROW_GROUP_SIZE
    source_bytes = sum(part_bytes for _, part_bytes, _ in source.parts())
    rows_per_shard = arguments.rows_per_shard or default_rows_per_shard(
        len(source), source_bytes, row_group_size
    )
    resize, mix = arguments.shorter_side is not None, arguments.shuffle is not None
    return Plan(
        source_digest=source.digest,
        rows=len(source),
        split=arguments.split,
        shorter_side=arguments.shorter_side,
        quality=(arguments.quality or _QUALITY) if resize else None,
        rows_per_shard=rows_per_shard,
        row_group_size=row_group_size,
        shuffle=arguments.shuffle,
        window=shuffle_window(source.groups, source_bytes, rows_per_shard) if mix else None,
    )


def _finish(
    arguments: argparse.Namespace, destination: Destination, notes: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Write the report; the object of `--json`."""
    left_out = [one for shard in sorted(notes) for one in notes[shard]["left_out"]]
    plan = destination.plan
    totals = {
        key: sum(note[key] for note in notes.values())
        for key in ("rows", "resized", "bytes", "source_bytes", "file_bytes")
    }
    if not totals["rows"]:
        raise UserError(f"{arguments.src}: none of its {plan.rows:,} pictures can be read")
    result = {
        "uri": destination.uri,
        "split": plan.split,
        "source": arguments.src,
        "source_rows": plan.rows,
        "shards": len(plan),
        **totals,
        "left_out": dict(Counter(one["reason"] for one in left_out).most_common()),
    }
    report = json.dumps(result | {"pictures_left_out": left_out}, indent=2).encode() + b"\n"
    result["report"] = destination.write_report(report)
    return result | {"digest": open_source(destination.uri, plan.split).digest}


def _print(result: dict[str, Any], plan: Plan) -> None:
    print(f"{result['uri']}: the {plan.split} split is complete")
    shards = f"{result['shards']:,} shard(s), row groups of {plan.row_group_size}"
    fields = [("pictures", f"{result['rows']:,} in {shards}")]
    if plan.shorter_side is None:
        fields.append(("resized", "none: bytes are as they were, and no picture was decoded"))
    else:
        fields += _resized_fields(result, plan)
    fields += [("report", result["report"]), ("digest", result["digest"])]
    print_fields(fields)
    setting = shlex.quote(f"data.{plan.split}={result['uri']}")
    print(f"use it: mimray pretrain demo {setting}")


def _resized_fields(result: dict[str, Any], plan: Plan) -> list[tuple[str, str]]:
    resized, same = result["resized"], result["rows"] - result["resized"]
    text = f"{resized:,} to a shorter side of {plan.shorter_side} px (Lanczos, JPEG quality {plan.quality})"
    if same:
        text += f"; {same:,} no larger, left as found"
    ratio = result["bytes"] / result["source_bytes"]
    reasons = ", ".join(f"{count:,} {why}" for why, count in result["left_out"].items())
    left_out = f"{result['source_rows'] - result['rows']:,} unreadable ({reasons})"
    return [
        ("resized", text),
        ("bytes", f"{size(result['bytes'])} of {size(result['source_bytes'])} ({ratio:.0%})"),
        ("left out", left_out if reasons else "none"),
    ]
