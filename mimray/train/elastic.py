"""Hosts come and go: is there room for more trainers than there are, or no longer for the data?"""

from __future__ import annotations

import time
from collections import Counter
from typing import Literal

import ray

from mimray.errors import UserError
from mimray.recipe import Speed
from mimray.train.resources import Layout, Node, cluster_nodes, lay_out

_LOOK_SECONDS = 10.0
_LOOKS = 2  # in a row, for what is so for a moment means nothing


class Hosts:
    """Watches a cluster for a group of trainers that was laid out for other hosts than there are.

    A restart costs some steps' time, so growth takes a sign: a host that was not there when the group was
    laid out, or GPUs that stay free and that another trainer fits on. CPUs that are free now and then are
    the data's. A host that is lost while a group starts may leave the others to the trainers alone, and
    then no picture ever comes.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.known: set[str] = set()
        self.looked_at = 0.0
        self.signs: dict[str, int] = {}

    def began(self) -> None:
        """A group has been laid out on the hosts that there are now."""
        self.known, self.signs = {node["NodeID"] for node in _alive()}, {}

    def verdict(self, layout: Layout, hosts: list[str]) -> Literal["room", "starved"] | None:
        """Why a restart is worth its time, if it is; looks every ten seconds. `hosts`: names of those that
        the trainers are on."""
        if time.monotonic() - self.looked_at < _LOOK_SECONDS:
            return None
        self.looked_at = time.monotonic()
        nodes = _alive()
        if self._stays("starved", leaves_nothing(layout, nodes)):
            return "starved"
        more = layout.workers < self.speed.most_workers and (
            self._would_gain(layout, hosts)
            if layout.use_gpu
            else bool({node["NodeID"] for node in nodes} - self.known)
        )
        return "room" if self._stays("room", more) else None

    def _would_gain(self, layout: Layout, hosts: list[str]) -> bool:
        """Whether more trainers would fit on what is free and what these hold."""
        held = Counter(hosts)
        nodes = [
            Node(n.name, n.cpus + held[n.name] * layout.cpus_per_worker, n.gpus + held[n.name])
            for n in cluster_nodes()
        ]
        try:
            return lay_out(self.speed, nodes).workers > layout.workers
        except UserError:
            return False

    def _stays(self, sign: str, seen: bool) -> bool:
        self.signs[sign] = self.signs.get(sign, 0) + 1 if seen else 0
        return self.signs[sign] >= _LOOKS


def leaves_nothing(layout: Layout, nodes: list[dict]) -> bool:
    """Whether trainers hold so much of the hosts' CPUs that no whole one is left for the data."""
    total: float = sum(node["Resources"].get("CPU", 0.0) for node in nodes)
    return total - layout.workers * layout.cpus_per_worker < 1.0


def _alive() -> list[dict]:
    return [node for node in ray.nodes() if node["Alive"]]
