"""Real runs for the tests: the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TINY = [
    "optim.lr=0.001",
    "schedule.length=12it",
    "schedule.warmup=4it",
    "run.validate_every=6it",
    "run.checkpoint_every=4it",
    "run.log_every=1it",
]
"""Overrides that make the demo recipe a run of twelve steps."""


@dataclass
class Finished:
    """A process that has ended: exit status, its words, and the run's folder."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def result(self) -> dict:
        """The object of `--json`: exactly one line on standard output."""
        (line,) = self.out.strip().splitlines()
        return json.loads(line)

    @property
    def record(self) -> dict:
        return json.loads((self.folder / "run.json").read_text())

    @property
    def rows(self) -> list[dict]:
        return [
            json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()
        ]


def command(folder: Path, *overrides: str, recipe: str = "demo") -> list[str]:
    """`mimray pretrain` with storage and tracking under `folder`, the run named `run`."""
    return [
        *(sys.executable, "-m", "mimray.cli", "pretrain", recipe, "--json"),
        f"run.storage={folder}/runs",
        "run.name=run",
        f"run.tracking=sqlite:///{folder}/mlflow.db",
        *overrides,
    ]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without a Ray that somebody else started."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return inherited | more


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    """`mimray pretrain` in the background."""
    return in_background(command(folder, *overrides), folder)


def in_background(words: list[str], folder: Path) -> subprocess.Popen:
    """A process of its own group, started in a folder."""
    return subprocess.Popen(
        words,
        env=environment(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def pretrain(
    folder: Path, *overrides: str, prefix: tuple[str, ...] = (), timeout: float = 240
) -> Finished:
    """Run to the end."""
    done = subprocess.run(
        [*prefix, *command(folder, *overrides)],
        env=environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Finished(done.returncode, done.stdout, done.stderr, folder / "runs" / "run")


def write_photos(folder: Path, count: int) -> None:
    """The first shipped photos as JPEG files."""
    from mimray.data.sources import open_source

    source = open_source("builtin:photos/train")
    folder.mkdir()
    for row, data in enumerate(source.read(range(count))):
        (folder / f"{row:03d}.jpg").write_bytes(data)
