"""Targets by name: what is predicted where the picture is hidden.

A target stands in one file; adding one adds the file and a line in `TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable

from mimray.mim.targets.bins import Bins
from mimray.mim.targets.clusters import Clusters
from mimray.mim.targets.hog import Hog
from mimray.mim.targets.patches import NormalisedPatches
from mimray.mim.targets.pixels import Pixels
from mimray.mim.targets.protocol import Target
from mimray.mim.targets.tokens import Tokens
from mimray.mim.targets.windowed import WindowedPixels
from mimray.recipe import TargetSettings
from mimray.settings_errors import nearest

__all__ = ["TARGETS", "Target", "build_target"]

TARGETS: dict[str, Callable[[TargetSettings, int], Target]] = {
    "pixels": Pixels,
    "windowed": WindowedPixels,
    "patches": NormalisedPatches,
    "bins": Bins,
    "clusters": Clusters,
    "tokens": Tokens,
    "hog": Hog,
}
"""Each is built with its settings and the pixels of the picture's side."""


def build_target(settings: TargetSettings, image_size: int) -> Target:
    """Build a target for pictures of `image_size` pixels (the shorter side).

    Raises ValueError for an unknown kind, for a resolution that does not divide the picture or that
    the target does not come in, and for what the target itself refuses.
    """
    kind, resolution = settings.kind, settings.resolution
    if kind not in TARGETS:
        raise ValueError(f"target.kind={kind} is not known{nearest(kind, list(TARGETS))}")
    if resolution and image_size % resolution:
        raise ValueError(
            f"target.resolution={resolution} does not divide the {image_size} px picture"
        )
    target = TARGETS[kind](settings, image_size)
    if resolution and resolution * target.pixel != image_size:
        raise ValueError(
            f"target.resolution={resolution}: target.kind={kind} has a position for {target.pixel} px "
            "and no other; leave the resolution out"
        )
    return target
