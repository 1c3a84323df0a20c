"""After the work: what the hosts kept for it goes."""

from __future__ import annotations

from contextlib import suppress

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimray.data.node_cache import NodeCache

_SECONDS = 5.0  # a host that has not answered by then removes it at the next run


def clear_cache(cache: NodeCache) -> None:
    """Remove a cache from this host and, while Ray is connected, from every other. Never raises."""
    cache.clear()
    if not ray.is_initialized():  # asking would start another Ray
        return
    with suppress(Exception):  # Ray may be on its way out, and a cache that stays does little harm
        nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        if len(nodes) < 2:
            return
        answers = [
            _clear.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(cache)
            for node in nodes
        ]
        ray.wait(answers, num_returns=len(answers), timeout=_SECONDS)


@ray.remote(num_cpus=0, max_retries=0)
def _clear(cache: NodeCache) -> None:
    cache.clear()
