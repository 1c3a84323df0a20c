"""Targets by name: what is predicted where the picture is hidden.

A target stands in one file; adding one adds the file and a line in `TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable

from mimray.mim.targets.pixels import Pixels
from mimray.mim.targets.protocol import Target
from mimray.mim.targets.windowed import WindowedPixels
from mimray.recipe import TargetSettings
from mimray.settings_errors import nearest

__all__ = ["TARGETS", "Target", "build_target"]

TARGETS: dict[str, Callable[[TargetSettings, int], Target]] = {
    "pixels": Pixels,
    "windowed": lambda settings, pixel: WindowedPixels(settings),
}
"""Each is built with its settings and the pixels of one position at `target.resolution`."""


def build_target(settings: TargetSettings, image_size: int) -> Target:
    """Build a target for pictures of `image_size` pixels (the shorter side).

    Raises ValueError for an unknown kind, for a resolution that does not divide the picture, and for
    what the target itself refuses.
    """
    if settings.kind not in TARGETS:
        known = nearest(settings.kind, list(TARGETS))
        raise ValueError(f"target.kind={settings.kind} is not known{known}")
    resolution = settings.resolution or image_size
    if image_size % resolution:
        raise ValueError(f"target.resolution={resolution} does not divide the {image_size} px picture")
    return TARGETS[settings.kind](settings, image_size // resolution)
