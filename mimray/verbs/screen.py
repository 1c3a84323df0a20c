"""Where tables are printed: as wide as the terminal, and in a file or pipe as wide as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 400  # nobody looks, and a path that is broken cannot be copied


def screen(width: int | None = None) -> Console:
    """Standard output; `width`: columns that a terminal wraps, the terminal's own when not given."""
    from rich.console import Console

    width = width if sys.stdout.isatty() else max(width or 0, _WIDTH)
    return Console(highlight=False, soft_wrap=True, width=width)
