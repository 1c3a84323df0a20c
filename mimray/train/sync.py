"""Deliver to MLflow what it lacks of runs that are over: its server was away, or their driver died."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import Any, NamedTuple

from pyarrow import fs

from mimray.data.files import join, resolve
from mimray.errors import MimrayError, RunFailed, UserError
from mimray.tracking import Copy, count_not_finite, reason
from mimray.train.fence import Fence
from mimray.train.run_folder import RunFolder
from mimray.train.spool import files, head_of, rows_after

log = logging.getLogger("mimray")
_ENDED = ("finished", "failed", "stopped")
_QUIET_SECONDS = 10.0


class Synced(NamedTuple):
    """What became of one run: its status in its record, and the rows that MLflow lacked."""

    name: str
    status: str
    rows: int


def sync(run: RunFolder) -> Synced:
    """Deliver a run's rows, files and status; what is there already is not sent again.

    A run whose process died is killed, whatever its record says. Raises UserError while somebody
    trains it, and RunFailed where MLflow does not take it.
    """
    fence = Fence(run)
    fence.claim()
    try:
        record = run.record()
        assert record is not None
        record.setdefault("uid", uuid.uuid4().hex)  # the run may be of an older mimray
        head = head_of(run, record)
        if head.uri == "off":
            return Synced(record["name"], record["status"], 0)
        try:
            copy, sent = _deliver(run, record)
        except Exception as error:  # MLflow raises of every kind
            said = f"MLflow at {head.uri}: {reason(error)}"
            raise RunFailed(f"{said}; the same command goes on") from None
        run.write_record(record | {"mlflow_run_id": copy.run_id, "mlflow_pending": False})
        return Synced(record["name"], record["status"], sent)
    finally:
        fence.release()


def _deliver(run: RunFolder, record: dict[str, Any]) -> tuple[Copy, int]:
    copy = Copy(head_of(run, record), record["mlflow_run_id"])
    sent = copy.rows(rows_after(run, copy.delivered))
    not_finite, ended = 0, record["starts"][-1]["time"] if record["starts"] else time.time()
    for row in rows_after(run, -1):
        not_finite += count_not_finite([row])
        ended = max(ended, row["time"])
    copy.close(record["status"], not_finite, ended)
    for name, data in files(run):
        copy.file(name, data)
    return copy, sent


def run_folders(storage: str) -> list[RunFolder]:
    """All folders under a storage URI, runs or not. Raises UserError if it cannot be read."""
    filesystem, path = resolve(storage)
    try:
        folders = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise UserError(f"{storage}: {str(error).splitlines()[0]}") from None
    return [RunFolder(join(storage, f.base_name)) for f in folders if not f.is_file]


def deliver_earlier_runs(beside: RunFolder, uri: str) -> threading.Thread:
    """In the background, for a few seconds: what the same MLflow lacks of runs that ended.

    Says nothing and fails nothing; `mimray runs sync` is there for the rest.
    """

    def work() -> None:
        until = time.monotonic() + _QUIET_SECONDS
        try:
            for run in run_folders(_storage(beside)):
                if time.monotonic() > until:
                    return
                if _ended_without(uri, run):
                    sync(run)
        except (MimrayError, OSError) as error:
            log.debug("earlier runs are not delivered: %s", error)

    thread = threading.Thread(target=work, name="sync", daemon=True)
    thread.start()
    return thread


def _ended_without(uri: str, run: RunFolder) -> bool:
    """Whether a run ended and that MLflow lacks something of it. Those that go on deliver themselves,
    and telling them from killed ones may take long."""
    record = run.record()
    if record is None or not record.get("mlflow_pending") or record["status"] not in _ENDED:
        return False
    return head_of(run, record).uri == uri


def _storage(run: RunFolder) -> str:
    """The URI that a run's folder lies under."""
    head, mark, options = run.uri.partition("?")
    return head.rpartition("/")[0] + mark + options
