"""Real `mimray pretrain` runs that a benchmark watches, and what their processes note.

Notes are lines of JSON, a file a process: `{"what", "at", ...}`, by the clock that all processes of a host
share.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NOTES = "MIMRAY_BENCHMARK_NOTES"
_REPOSITORY = Path(__file__).parents[1]
_END_SECONDS = 90.0


def note(what: str, **more: Any) -> None:
    """Note, in a process of a run, that something has happened now."""
    with open(Path(os.environ[NOTES]) / f"{os.getpid()}.jsonl", "a") as file:
        print(json.dumps({"what": what, "at": time.monotonic(), **more}), file=file)


class Watched:
    """A process of `python -m MODULE WORDS...` and all that descends from it, with its notes."""

    def __init__(self, folder: Path, module: str, *words: str) -> None:
        self.folder = folder
        (folder / "notes").mkdir(parents=True)
        self.began = time.monotonic()
        # A user's shell has no settings of a Ray that somebody else started.
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=folder,
            env=env | {NOTES: str(folder / "notes"), "PYTHONPATH": str(_REPOSITORY)},
            stdout=(folder / "out").open("w"),
            stderr=(folder / "err").open("w"),
            start_new_session=True,
        )

    def notes(self, what: str) -> list[dict[str, Any]]:
        """What was noted by that name, in the order of time; each with its `pid`."""
        found = []
        for file in (self.folder / "notes").glob("*.jsonl"):
            for line in file.read_text().splitlines():
                with contextlib.suppress(ValueError):  # cut off by a kill
                    found.append(json.loads(line) | {"pid": int(file.stem)})
        return sorted((n for n in found if n["what"] == what), key=lambda n: n["at"])

    def wait_for(
        self, what: str, count: int = 1, after: float = 0.0, seconds: float = 180.0
    ) -> float:
        """Wait until that was noted so often after some moment; returns when it was."""
        deadline = time.monotonic() + seconds
        while True:
            times = [n["at"] for n in self.notes(what) if n["at"] > after]
            if len(times) >= count:
                return times[count - 1]
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                sys.exit(f"no {count} x {what}: {(self.folder / 'err').read_text()[-3000:]}")
            time.sleep(0.1)

    def record(self) -> dict[str, Any]:
        """`run.json` as it is now; empty before there is one."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "runs" / "run" / "run.json").read_text())
        return {}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        for pid in family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self) -> None:
        """Ask it to stop, as a user would, and wait for that."""
        self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End all of its processes at once."""
        self.signal(signal.SIGKILL)
        self.process.wait()


def pretrain_words(folder: Path, recipe: str, *settings: str) -> list[str]:
    """The words of a `mimray pretrain` whose run and MLflow store lie in a folder."""
    here = [
        f"run.storage={folder}/runs",
        "run.name=run",
        f"run.tracking=sqlite:///{folder}/mlflow.db",
    ]
    return ["pretrain", recipe, "--json", *here, *settings]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for member, fields in _stats():
        children.setdefault(int(fields[1]), []).append(member)
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_seconds(pid: int) -> dict[str, float]:
    """What a process and each of its descendants have computed so far, by what they were started as."""
    members = set(family(pid))
    seconds: dict[str, float] = {}
    for member, fields in _stats():
        if member in members:
            name = "driver" if member == pid else _name(member)
            used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            seconds[name] = seconds.get(name, 0.0) + used
    return seconds


def _stats() -> list[tuple[int, list[str]]]:
    """Of every process its id and the fields of /proc/PID/stat from the third (its state) on."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found.append((int(stat.parent.name), stat.read_text().rpartition(")")[2].split()))
    return found


def _name(pid: int) -> str:
    """`raylet`, `gcs_server`, `ray::RayTrainWorker` and the like; of Python its script."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    program = Path(words[0].split(" ")[0]).name.split(".")[0]
    scripts = [Path(word).stem for word in words if word.endswith(".py")]
    return scripts[0] if program.startswith("python") and scripts else program
