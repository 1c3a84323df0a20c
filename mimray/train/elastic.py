"""Does the cluster have room for more trainers than there are? Then they are worth a restart."""

from __future__ import annotations

import time

import ray

from mimray.recipe import Speed
from mimray.train.resources import Layout

_LOOK_SECONDS = 10.0
_LOOKS = 2  # in a row, for what is free for a moment is no room


class Growth:
    """Watches a cluster for a group that has fewer trainers than it may.

    A restart costs some steps' time, so it takes a sign: a host that was not there when the group was
    laid out, or a GPU that stays free. CPUs that are free now and then are the data's.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.hosts: set[str] = set()
        self.looked_at, self.signs = 0.0, 0

    def began(self) -> None:
        """A group has been laid out on the hosts that there are now."""
        self.hosts, self.signs = _hosts(), 0

    def due(self, layout: Layout) -> bool:
        """Whether a restart would find room for more; looks every ten seconds."""
        if layout.workers >= self.speed.most_workers:
            return False
        if time.monotonic() - self.looked_at < _LOOK_SECONDS:
            return False
        self.looked_at = time.monotonic()
        free = ray.available_resources().get("GPU", 0.0) if layout.use_gpu else 0.0
        room = bool(_hosts() - self.hosts) or free >= 1.0
        self.signs = self.signs + 1 if room else 0
        return self.signs >= _LOOKS


def _hosts() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
