"""The plan of a preparation: which pictures go to which shard, and what of it is done already.

A destination holds the shards, `SPLIT-00000-of-00012.parquet`, and a hidden folder `.prepare` with the
plan of each split, a note of each shard that is complete, and a report. The plan is written first;
whatever it says is a function of the source and the settings, so a start that was killed is gone on
with by leaving out what is noted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from pyarrow import ArrowException, fs

from mimray.data.files import absolute, is_local, join, read_bytes, resolve, write_atomic
from mimray.data.order import Order
from mimray.data.rowset import RowSet
from mimray.errors import RunFailed, UserError

ROW_GROUP_SIZE = 128  # rows; a shuffle window of 8,192 then mixes 64 groups of 14 MB (ImageNet)
_SHARD_ROWS, _SHARD_BYTES = 8192, 512 * 2**20
_FEWEST_SHARDS = 32  # so that many CPUs have work, and little is lost by a kill
_MIXED_GROUPS, _MIXED_BYTES = 64, 8 * 2**30

_SAID = {
    "source_digest": "the source's digest",
    "shorter_side": "--shorter-side",
    "quality": "--quality",
    "rows_per_shard": "--rows-per-shard",
    "row_group_size": "--row-group-size",
    "shuffle": "--shuffle",
    "rows": "the number of pictures",
    "window": "the rows that --shuffle mixes",
    "version": "the version of this format",
}


def default_rows_per_shard(rows: int, size: int, row_group_size: int) -> int:
    """Whole row groups that hold at most 8,192 of `rows`, half a GiB of `size` bytes, 1/32 of all."""
    most = min(_SHARD_ROWS, rows // _FEWEST_SHARDS, rows * _SHARD_BYTES // max(1, size))
    return max(1, -(-most // row_group_size)) * row_group_size


def shuffle_window(groups: np.ndarray, size: int, rows_per_shard: int) -> int:
    """How many rows are mixed with each other: whole shards that hold 64 of the source's row groups.

    Or 8 GiB of its `size` bytes, for a host keeps what several shards take their rows from.
    """
    rows = int(groups.sum())
    wanted = min(_MIXED_GROUPS * int(groups.max()), rows * _MIXED_BYTES // max(1, size), rows)
    return max(1, -(-wanted // rows_per_shard)) * rows_per_shard


@dataclass(frozen=True)
class Plan:
    """Everything that decides what the shards of a split hold.

    `shorter_side` (pixels) and `quality` are None where bytes pass through untouched; `shuffle` (a
    seed) and `window` (rows, whole shards) are None for the source's own order.
    """

    source_digest: str
    rows: int
    split: str
    shorter_side: int | None
    quality: int | None
    rows_per_shard: int
    row_group_size: int
    shuffle: int | None
    window: int | None
    version: int = 1

    def __len__(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.rows_per_shard)

    def name(self, shard: int) -> str:
        """A shard's file name."""
        return f"{self.split}-{shard:05d}-of-{len(self):05d}.parquet"

    def order(self, groups: np.ndarray) -> Order | None:
        """The order of a shuffled preparation, as a run's: row groups permuted, rows mixed."""
        if self.shuffle is None or self.window is None:
            return None
        return Order(groups, RowSet.everything(self.rows), self.shuffle, self.window)

    def rows_of(self, shard: int, order: Order | None) -> np.ndarray:
        """The source's rows in a shard, in the order in which they shall lie there: int64."""
        start = shard * self.rows_per_shard
        stop = min(start + self.rows_per_shard, self.rows)
        return np.arange(start, stop) if order is None else order.slice(0, start, stop)

    @property
    def digest(self) -> str:
        """Hex; another digest is another plan."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class Destination:
    """Where the shards of a plan lie, on any pyarrow filesystem; small enough to go with every task."""

    def __init__(self, uri: str, plan: Plan) -> None:
        self.uri, self.plan = absolute(uri).rstrip("/"), plan
        self.filesystem, self.path = resolve(self.uri)
        self.path = self.path.rstrip("/")

    @property
    def local(self) -> bool:
        """Whether it lies on a filesystem of this machine."""
        return is_local(self.filesystem)

    @cached_property
    def notes(self) -> str:
        """Path of the hidden folder."""
        return f"{self.path}/.prepare"

    def shard_path(self, shard: int) -> str:
        """Path of a shard."""
        return f"{self.path}/{self.plan.name(shard)}"

    def note_path(self, shard: int) -> str:
        """Path of the note that a shard is complete."""
        return f"{self.notes}/{self.plan.name(shard)}.json"

    def write_report(self, report: bytes) -> str:
        """Write what came of it all, which nobody but people reads; returns its URI."""
        name = f"{self.plan.split}-report.json"
        try:
            write_atomic(self.filesystem, f"{self.notes}/{name}", report)
        except OSError as error:
            raise RunFailed(f"{self.uri}: cannot be written any more: {_line(error)}") from None
        return join(self.uri, ".prepare", name)

    # ----- before ---------------------------------------------------------------------------------

    def claim(self) -> IO[bytes] | None:
        """Write the plan, or find it written: the lock that keeps others out while it is open.

        (None where the filesystem is not of this machine.) Raises UserError for a place that holds
        something else or is being written to.
        """
        try:
            self._refuse_others()
            lock = self._lock()
            self._write_plan()
            if self.local:  # of a start that was killed
                for part in Path(self.notes).glob("*.part"):
                    part.unlink()
        except (OSError, ArrowException) as error:
            raise UserError(f"{self.uri}: cannot be written: {_line(error)}") from None
        return lock

    def _refuse_others(self) -> None:
        """Only an empty place, or one that holds prepared splits, is written to."""
        here = self.filesystem.get_file_info(self.path)
        if here.type == fs.FileType.File:
            raise UserError(f"{self.uri} is a file; name a folder")
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        names = sorted(f.base_name for f in found if not f.base_name.startswith("."))
        notes = self.filesystem.get_file_info(fs.FileSelector(self.notes, allow_not_found=True))
        plans = {f.base_name for f in notes if f.base_name.endswith(".plan.json")}
        own = f"{self.plan.split}.plan.json" in plans
        strange = [
            n for n in names if not plans or (n.startswith(f"{self.plan.split}-") and not own)
        ]
        if strange:
            raise UserError(
                f"{self.uri} holds {strange[0]}, which `data prepare` did not write; name a new folder"
            )

    def _lock(self) -> IO[bytes] | None:
        if not self.local:
            return None
        Path(self.notes).mkdir(parents=True, exist_ok=True)
        lock = open(f"{self.notes}/lock", "ab")  # noqa: SIM115 (held by the caller)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise UserError(f"{self.uri} is being prepared by another process") from None
        return lock

    def _write_plan(self) -> None:
        path = f"{self.notes}/{self.plan.split}.plan.json"
        written = read_bytes(self.filesystem, path)
        if written is None:
            write_atomic(self.filesystem, path, json.dumps(asdict(self.plan), indent=2).encode())
            return
        try:
            other = json.loads(written)
        except ValueError:
            raise UserError(f"{path}: not a plan of `data prepare`; name a new folder") from None
        different = [
            f"{_SAID[key]} was {_said(other.get(key))} and is {_said(value)}"
            for key, value in asdict(self.plan).items()
            if other.get(key) != value
        ]
        if different:
            raise UserError(
                f"{self.uri} holds {self.plan.split} shards that were prepared otherwise: "
                f"{', '.join(different)}; name a new folder, or delete that one"
            )

    # ----- during and after -----------------------------------------------------------------------

    def complete(self) -> dict[int, dict[str, Any]]:
        """The notes of the shards that are complete, by shard."""
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
            noted = self.filesystem.get_file_info(fs.FileSelector(self.notes, allow_not_found=True))
            sizes = {f.base_name: f.size for f in found}
            names = {f.base_name for f in noted}
            notes = {
                shard: self.note(shard)
                for shard in range(len(self.plan))
                if f"{self.plan.name(shard)}.json" in names
            }
        except (OSError, ArrowException) as error:
            raise RunFailed(f"{self.uri}: cannot be read any more: {_line(error)}") from None
        return {
            shard: note
            for shard, note in notes.items()
            if note is not None
            and note["plan"] == self.plan.digest
            and note["file_bytes"] == sizes.get(self.plan.name(shard))
        }

    def note(self, shard: int) -> dict[str, Any] | None:
        """What is noted of a complete shard, or None."""
        data = read_bytes(self.filesystem, self.note_path(shard))
        return None if data is None else dict(json.loads(data))


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
