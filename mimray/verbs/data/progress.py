"""What people read while work on many pictures goes on, and after it."""

from __future__ import annotations

import shutil
import time
from typing import TextIO

from mimray.train.console import Console, duration

_BAR = 24  # characters


class Progress(Console):
    """A bar on a terminal, a plain line every five seconds elsewhere (none where `plain` is False).

    `done` of `total` pictures were done before this start. On a terminal nothing is shown in the
    first `patience` seconds.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        patience: float = 0.0,
        plain: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(stream)
        self.total, self.before = total, done
        self.quiet = not (plain or self.live)
        self.every = 0.1 if self.live else 5.0
        self.start = time.monotonic()
        self.shown_at = self.start + (patience if self.live else 0.0)

    def show(self, done: int) -> None:
        """Note that `done` pictures are done."""
        now = time.monotonic()
        if self.quiet or now - self.shown_at < self.every:
            return
        self.shown_at = now
        line = self._text(done, now - self.start)
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self.width), end="", file=self.stream, flush=True)
            self.width = len(line)
        else:
            print(line, file=self.stream, flush=True)

    def _text(self, done: int, seconds: float) -> str:
        rate = (done - self.before) / max(seconds, 1e-9)
        left = duration((self.total - done) / rate) if rate else "..."
        filled = _BAR * done // max(1, self.total)
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]  " if self.live else ""
        return f"{bar}{done:,}/{self.total:,} pictures  {rate:,.0f} a second  {left} left"


def size(count: float) -> str:
    """Bytes as people read them: 812 bytes, 34.1 kB, 2.9 MB, 140 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.1f} {unit}" if unit != "bytes" and count < 100 else f"{count:.0f} {unit}"


def print_fields(fields: list[tuple[str, str]]) -> None:
    """Lines of a name and what is to be said about it."""
    width = max(len(name) for name, _ in fields) + 2
    for name, value in fields:
        print(f"  {name:<{width}}{value}")
