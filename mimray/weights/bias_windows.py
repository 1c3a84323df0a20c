"""The windows that SwinV2's position bias was learned at.

The bias is a function of offsets, which are divided by a window before. The same weights scaled by
another window are another bias, and no name or shape shows it. mimray's checkpoints carry the windows as
the encoder's `bias_windows`; files that hold the scaled offsets (`relative_coords_table`) tell them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, tensor

NAME = "encoder.bias_windows"
_TABLE = re.compile(r"layers\.(\d+)\.blocks\.0\..*relative_coords_table$")


def from_coordinates(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`NAME` and its tensor, int64 (stages, 2), from a file that holds tables of every stage under
    anybody's names; else nothing.

    A table is (1, 2 * rows - 1, 2 * columns - 1, 2). Its offsets d are log8(1 + 8 |d| / (window - 1)) with
    d's sign (Swin Transformer V2, section 3.3), so the largest tells the window; 0 where there is none.
    """
    windows: dict[int, list[int]] = {}
    for name, table in weights.items():
        found = _TABLE.search(name)
        if found and table.ndim == 4 and table.shape[3] == 2:
            last = table[0, -1, -1].tolist()
            sides = ((n + 1) // 2 for n in table.shape[1:3])
            windows[int(found[1])] = [_window(s, x) for s, x in zip(sides, last, strict=True)]
    if not windows or sorted(windows) != list(range(len(windows))):
        return {}
    return {NAME: tensor([windows[stage] for stage in range(len(windows))])}


def _window(side: int, largest: float) -> int:
    """The window that scaled the offset side - 1 to `largest`; 0 for a number that none gives."""
    if side < 2 or not 0.01 < largest < 10.0:
        return 0
    return round(1 + 8 * (side - 1) / (8**largest - 1))


def clash(found: Tensor, own: Tensor) -> str | None:
    """What is wrong with weights learned at windows `found` in a model that scales by `own`, each
    (stages, 2), and how to mend it; None where they agree as far as both are known (not 0)."""
    if not ((found != own) & (found > 0) & (own > 0)).any():
        return None
    learned = _shown(found)
    return (
        f"{NAME} is {learned} in the file and {_shown(own)} in the model, and the position bias is scaled "
        f"by it: build the encoder with pretrained_windows={learned} (model.pretrained_windows in a recipe "
        "for fine-tuning)"
    )


def doubt(own: Tensor) -> str:
    """What to know of a load from a file that does not tell all its windows."""
    return (
        f"the file does not tell; right if its position bias was learned at windows {_shown(own)}"
    )


def _shown(windows: Tensor) -> str:
    """As `build_encoder` takes them: a square window is one number."""
    return str(tuple(r if r == c else (r, c) for r, c in windows.tolist()))
