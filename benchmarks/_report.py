"""The form in which every benchmark reports."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TypedDict


class Figure(TypedDict):
    """`ratio` is better when larger and shall reach `target` (0: none is asked).

    `ours` and `theirs` are in `unit`.
    """

    ratio: float
    target: float
    ours: float
    theirs: float
    unit: str


def report(name: str, figures: dict[str, Figure], as_json: bool, **more: object) -> None:
    """Print the figures, the one nearest to failing at the top, and what else is worth knowing."""
    asked = [f for f in figures.values() if f["target"]]
    first = next(iter(figures.values()))
    nearest = min(asked, key=lambda f: f["ratio"] / f["target"]) if asked else first
    if as_json:
        top = {"ratio": nearest["ratio"], "target": nearest["target"]}
        print(json.dumps({"name": name, "machine": machine(), "figures": figures, **top, **more}))
        return
    print(f"{name} on {machine()}")
    for label, f in figures.items():
        print(
            f"  {label:<28}{f['ratio']:8.3f} (target {f['target']:g})"
            f"   ours {f['ours']:.4g}, theirs {f['theirs']:.4g} {f['unit']}"
        )
    for label, value in more.items():
        print(f"  {label}: {value}")


def machine() -> str:
    """Processor, cores and accelerator."""
    cpu = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpu.exists():
        lines = cpu.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"
