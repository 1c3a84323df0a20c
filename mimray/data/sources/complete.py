"""Whether all shards of a data set are there: a download or a preparation may have been cut short."""

from __future__ import annotations

import json
import posixpath
import re
from collections import defaultdict
from fnmatch import fnmatch

from pyarrow import ArrowException, fs

from mimray.data.files import read_bytes
from mimray.data.prepare import Plan
from mimray.errors import UserError

_NUMBERED = re.compile(r"(.*-)(\d{5})-of-(\d{5})(.*)")


def require_complete(
    uri: str, path: str, filesystem: fs.FileSystem, base: str, files: list[fs.FileInfo]
) -> None:
    """Raises UserError where `files` of the folder `base` are only a part of their data set.

    Told by their names (`train-00000-of-00012`), and by the notes that `data prepare` leaves. What a
    pattern at the end of the URI's `path` does not match, nobody has asked for.
    """
    path = path.rstrip("/")
    pattern = "*" if path == base.rstrip("/") else posixpath.basename(path)
    _require_notes(uri, filesystem, base, {f.base_name.partition("-")[0] for f in files}, pattern)
    missing = [name for name in _missing([f.path for f in files]) if _matches(name, pattern)]
    if missing:
        raise UserError(
            f"{uri}: {missing[0][len(base) :].lstrip('/')} is missing ({len(missing):,} file(s) in "
            f"all); fetch what is missing, or name the files to take by a pattern"
        )


def _matches(path: str, pattern: str) -> bool:
    return fnmatch(posixpath.basename(path), pattern)


def _missing(paths: list[str]) -> list[str]:
    """The shards that must be there too, in order; none where names do not all have numbers."""
    found = [_NUMBERED.fullmatch(path) for path in paths]
    numbers: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for match in found:
        if match is None:
            return []
        numbers[match[1], int(match[3])][int(match[2])] = match[4]
    out = []
    for (head, count), own in sorted(numbers.items()):
        first = 1 if 0 not in own and count in own else 0  # some count from 1
        rest = next(iter(own.values()))
        out += [
            f"{head}{number:05d}-of-{count:05d}{rest}"
            for number in range(first, first + count)
            if number not in own
        ]
    return out


def _require_notes(
    uri: str, filesystem: fs.FileSystem, base: str, splits: set[str], pattern: str
) -> None:
    """Every shard of a preparation must have its note."""
    folder = f"{base.rstrip('/')}/.prepare"
    try:
        found = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        names = {f.base_name for f in found}
        plans = [
            read_bytes(filesystem, f"{folder}/{split}.plan.json")
            for split in sorted(splits)
            if f"{split}.plan.json" in names
        ]
    except (OSError, ArrowException) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{uri}: cannot be read: {line}") from None
    for written in plans:
        try:
            plan = Plan(**json.loads(written or b""))
        except (ValueError, TypeError):
            continue  # nothing that `data prepare` wrote
        shards = [plan.name(n) for n in range(len(plan)) if _matches(plan.name(n), pattern)]
        left = [shard for shard in shards if f"{shard}.json" not in names]
        if left:
            raise UserError(
                f"{uri}: its preparation is not finished: {left[0]} is not complete ({len(left):,} "
                f"of {len(shards):,} shards left); `mimray data prepare`, as it was started, goes on "
                f"with it"
            )
