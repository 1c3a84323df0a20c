"""What a check has to say: one line, which names the mend where something is to be mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

GIB = 2**30

Weight = Literal["ok", "look", "mend"]
"""`mend`: the run would not start, not finish, or not be what its recipe says. `look`: it would, but
slowly, or less safely than it could."""


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's."""

    check: str
    text: str
    weight: Weight = "ok"

    @property
    def ok(self) -> bool:
        """Whether it stops nothing."""
        return self.weight != "mend"

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"check": self.check, "ok": self.ok, "weight": self.weight, "finding": self.text}


def several(names: list[str]) -> str:
    """Hosts in a sentence: the first three, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
