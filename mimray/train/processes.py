"""Processes of a host, told apart by more than their number, which the kernel gives again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a process of this host began, in ticks since the kernel did; None if it is gone, or ended
    and not yet waited for. Where the kernel does not tell (not Linux), 0 for any that lives."""
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except OSError:
            return None
        return 0
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def end(pid: int, began: int) -> None:
    """SIGKILL for a process of this host, if it is still the one that began then."""
    if start_time(pid) == began:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_workers_of(session: Path) -> None:
    """SIGKILL for Ray's workers, but this process, that hold files below a session's folder, where /proc
    tells."""
    session = session.resolve()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):  # gone, or another user's
            of_ray = b"RAY_RAYLET_PID=" in (process / "environ").read_bytes()
            if of_ray and any(f.startswith(f"{session}/") for f in _open_files(process)):
                os.kill(int(process.name), signal.SIGKILL)


def _open_files(process: Path) -> list[str]:
    found = []
    for entry in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(entry.readlink()))
    return found
