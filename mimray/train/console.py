"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, TextIO

_PLAIN_SECONDS = 5.0
_PLAIN_SHARE = 50  # of the time that has passed: a run of days is some hundred lines


class Console:
    """Satisfies `mimray.train.clerk.Progress`; writes to standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.opened = time.monotonic()
        self.began: tuple[float, int] | None = None
        self.shown_at = 0.0
        self.width = 0

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(text, file=self.stream, flush=True)

    def row(self, row: dict[str, Any], total: int) -> None:
        """Show a row of `metrics.jsonl`: at once on a terminal; elsewhere every few seconds, and less often
        the longer it goes on."""
        now = time.monotonic()
        if self.began is None or row["step"] < self.began[1]:  # or trainers started again
            self.began = (now, row["step"])
        last = row["step"] == total
        pause = max(_PLAIN_SECONDS, (now - self.opened) / _PLAIN_SHARE)
        if not self.live and not last and now - self.shown_at < pause:
            return
        self.shown_at = now
        line = self._line(row, total, now)
        if self.live:
            line = line[: shutil.get_terminal_size().columns - 1]
            print("\r" + line.ljust(self.width), end="", file=self.stream, flush=True)
            self.width = len(line)
        else:
            print(line, file=self.stream, flush=True)

    def clear(self) -> None:
        """Leave the live line as it stands and go on below it."""
        if self.width:
            print(file=self.stream, flush=True)
            self.width = 0

    def _line(self, row: dict[str, Any], total: int, now: float) -> str:
        assert self.began is not None
        began, first = self.began
        done = row["step"] - first
        left = (total - row["step"]) * (now - began) / done if done else None
        loss = row["train/loss"]
        parts = [
            f"step {row['step']}/{total}",
            f"loss {loss:.4f}" if loss is not None else "loss not finite",
            f"lr {row['train/lr']:.2e}",
            f"{row['speed/images_per_s']:.0f} images/s",
            f"{duration(left)} left" if left is not None else "... left",
            f"peak {row['speed/peak_memory_gib']:.1f} GiB",
        ]
        if "val/loss" in row:
            parts.append(f"val {row['val/loss']:.4f}")
        if "val/top1" in row:
            parts.append(f"top-1 {row['val/top1']:.1%}")
        if "val/skill" in row:  # a target that is classified has none
            parts.append(f"skill {row['val/skill']:+.3f}")
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people read them: 8 s, 2:05, 3:10:00."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
