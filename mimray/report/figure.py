"""How every figure ends: the look of its axes, and the PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def finished(axes: Axes) -> bytes:
    """The PNG of the figure that the axes stand in, with a legend and without a frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    axes.get_figure(root=True).savefig(out, format="png")  # type: ignore[union-attr]
    return out.getvalue()
