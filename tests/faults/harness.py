"""Real runs that meet faults, and what must be the same afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from tests.faults.injected import FAULTS, NOTES
from tests.train.local_ray import REPOSITORY
from tests.train.runs import Finished, command, environment

STEPS = 40
SETTINGS = [
    *(f"schedule.length={STEPS}it", "schedule.warmup=4it", "model.drop_path=0.1"),
    *("run.validate_every=20it", "run.checkpoint_every=5it", "run.log_every=1it"),
]


@dataclass
class Run:
    """`mimray pretrain`, in a process group of its own, with the faults of `tests.faults.injected`."""

    folder: Path
    settings: list[str]
    faults: list[dict] = field(default_factory=list)
    process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the trainers must find in theirs: a private Ray's inherit it, another must be given it."""
        notes = self.folder / "notes"
        notes.mkdir(exist_ok=True)
        faults = {FAULTS: json.dumps(self.faults), NOTES: str(notes)}
        return faults | {"PYTHONPATH": str(REPOSITORY)}

    def start(self, **more: str) -> Run:
        """In the background; what it says goes into files, for a full pipe would stop it."""
        words = command(self.folder, *SETTINGS, *self.settings)
        words[words.index("mimray.cli")] = "tests.faults.injected"
        self.process = subprocess.Popen(
            words,
            env=environment(**self.environment, **more),
            cwd=self.folder,
            stdout=(self.folder / "out").open("w"),
            stderr=(self.folder / "err").open("w"),
            start_new_session=True,
        )
        return self

    def finish(self, timeout: float = 300) -> Finished:
        """To the end."""
        assert self.process is not None
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end in {timeout} s: {self.said[-3000:]}") from None
        return Finished(status, (self.folder / "out").read_text(), self.said, self.record_folder)

    def kill(self) -> None:
        """SIGKILL for the driver and all that descends from it."""
        assert self.process is not None
        for pid in family(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def record_folder(self) -> Path:
        return self.folder / "runs" / "run"

    @property
    def said(self) -> str:
        return (self.folder / "err").read_text()

    def record(self) -> dict:
        """`run.json` as it is now; empty before there is one."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.record_folder / "run.json").read_text())
        return {}

    def wait_for_step(self, step: int, seconds: float = 180) -> None:
        """Until a checkpoint of at least that step is noted."""
        wait_until(lambda: self.record().get("steps", 0) >= step, seconds, self)

    def trainers(self) -> list[int]:
        """The processes that train now."""
        assert self.process is not None
        return [p for p in family(self.process.pid) if b"RayTrainWorker" in cmdline(p)]

    def rows_of_positions(self) -> dict[int, set[tuple[int, ...]]]:
        """For every position that was trained, however often: the distinct sets of its rows, each
        attempt's ranks put together."""
        attempts: dict[int, dict[str, list[int]]] = {}
        for file in sorted((self.folder / "notes").glob("*.jsonl")):
            for line in file.read_text().splitlines():
                with contextlib.suppress(ValueError):  # cut off by a kill
                    note = json.loads(line)
                    rows = attempts.setdefault(note["position"], {})
                    rows.setdefault(file.name, []).extend(note["rows"])
        return {p: {tuple(sorted(rows)) for rows in a.values()} for p, a in attempts.items()}


def wait_until(ready, seconds: float, run: Run) -> None:
    """Until `ready()`; an AssertionError with what the run said where it ends, or time does."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert run.process is not None
        assert run.process.poll() is None, run.said[-3000:]
        assert time.monotonic() < deadline, f"not in {seconds} s: {run.said[-3000:]}"
        time.sleep(0.1)


def undisturbed(folder: Path, workers: int) -> tuple[Run, Finished]:
    """The run that nothing happens to."""
    run = Run(folder, [f"speed.workers={workers}"]).start()
    done = run.finish()
    assert done.status == 0, done.err
    return run, done


def assert_same(run: Run, done: Finished, expected: tuple[Run, Finished]) -> None:
    """The oracle: every step once, the same rows at every position, and the same weights, bit by bit."""
    assert done.status == 0, done.err[-3000:]
    assert [row["step"] for row in done.rows] == list(range(1, STEPS + 1))
    expected_rows = expected[0].rows_of_positions()
    seen = run.rows_of_positions()
    assert seen.keys() == expected_rows.keys()
    for position, shares in seen.items():
        whole = expected_rows[position]
        assert whole <= shares, f"not all pictures of position {position} were trained"
        for share in shares - whole:  # cut off while it was noted
            assert any(set(share) < set(one) for one in whole), f"others at position {position}"
    ours, theirs = (load_file(weights(r)) for r in (done, expected[1]))
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def weights(done: Finished) -> Path:
    """Of the last step."""
    return done.folder / f"checkpoints/step-{STEPS:08d}/model.safetensors"


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cmdline(pid: int) -> bytes:
    """What a process was started as; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
