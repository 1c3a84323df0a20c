"""What became of every weight: of the file's and of the model's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

_SHOWN = 3


@dataclass(frozen=True)
class LoadReport:
    """`matched`: names in the model that were copied as they are; `resized`: that were fitted, with
    how; `dropped`: names in the file that were not used, with the reason, under mimray's names where it
    has one; `missing`: names in the model that the file does not fill, with the reason. Names of an
    encoder begin with `encoder.`, whatever was loaded. `str` is a summary of few lines."""

    matched: tuple[str, ...]
    resized: dict[str, str]
    dropped: dict[str, str]
    missing: dict[str, str]

    def __str__(self) -> str:
        counts = f"{len(self.matched)} matched, {len(self.resized)} resized"
        lines = [f"{counts}, {len(self.dropped)} dropped, {len(self.missing)} missing"]
        for kind in ("resized", "dropped", "missing"):
            lines += [f"  {kind}: {line}" for line in _by_reason(getattr(self, kind))]
        return "\n".join(lines)


def _by_reason(names: Mapping[str, str]) -> list[str]:
    """A line for each reason, with the first names that have it."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, reason in names.items():
        groups[reason].append(name)
    return [f"{shorten(group)}: {reason}" for reason, group in groups.items()]


def shorten(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
