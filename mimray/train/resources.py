"""Does the cluster have what a run needs? Asked before a worker starts, for Ray would wait for ever."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mimray.errors import UserError
from mimray.recipe import Speed

_CPU_SHARES = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class Node:
    """What is free on a host."""

    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Layout:
    """What each trainer reserves."""

    workers: int
    use_gpu: bool
    cpus_per_worker: float

    def per_worker(self) -> dict[str, float]:
        """As Ray Train's `resources_per_worker`."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": 1} if self.use_gpu else {})


def cluster_nodes() -> list[Node]:
    """The living hosts of the connected cluster, with what nobody uses now; not those that Ray has been
    told will be taken away."""
    import ray
    from ray._private.state import available_resources_per_node, state

    free, leaving = available_resources_per_node(), state.get_draining_nodes()
    return [
        Node(node["NodeManagerHostname"], have.get("CPU", 0.0), have.get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
        for have in [free.get(node["NodeID"], {})]
    ]


def lay_out(speed: Speed, nodes: list[Node]) -> Layout:
    """Choose as many trainers as there is room for, and what each reserves, so that a whole CPU stays
    free on some host.

    Reading and decoding are Ray tasks of one CPU: without a free one the first batch never comes.
    Raises UserError, in one sentence, when not even the least number of trainers fits.
    """
    least, gpus = speed.least_workers, int(sum(n.gpus for n in nodes))
    name = "speed.workers" if least == speed.most_workers else "at least speed.workers"
    if speed.device == "gpu" and gpus < least:
        raise UserError(
            f"{name}={least} need a GPU each and the cluster has {gpus}; "
            f"lower speed.workers or set speed.device=cpu"
        )
    if speed.device == "auto" and 0 < gpus < least:
        raise UserError(
            f"{name}={least} and the cluster has {gpus} GPUs; set "
            f"speed.workers={gpus}, or speed.device=cpu if that is meant"
        )
    use_gpu = speed.device != "cpu" and gpus > 0
    shares = (speed.cpus_per_worker,) if speed.cpus_per_worker else _CPU_SHARES
    for workers in range(speed.most_workers, least - 1, -1):
        for share in shares:
            if _fits(workers, share, use_gpu, speed.placement, nodes):
                return Layout(workers, use_gpu, share)
    total = sum(n.cpus for n in nodes)
    mend = "lower speed.cpus_per_worker" if speed.cpus_per_worker else "lower speed.workers"
    raise UserError(
        f"{least} trainers of {shares[-1]:g} CPU and one whole CPU free for the data do not "
        f"fit {len(nodes)} host(s) with {total:g} free CPUs: {mend}, wait for others to end, or start "
        f"Ray with more (--num-cpus={math.ceil(least * shares[-1]) + 1})"
    )


def _fits(workers: int, share: float, gpu: bool, placement: str, nodes: list[Node]) -> bool:
    """Place trainers one by one, as Ray does, and see whether a whole CPU is left somewhere."""
    free = [[n.cpus, n.gpus] for n in nodes]
    count = [0] * len(nodes)
    for _ in range(workers):
        able = [i for i, (c, g) in enumerate(free) if c >= share and (not gpu or g >= 1)]
        if not able:
            return False
        if placement == "spread":
            place = min(able, key=lambda i: count[i])
        else:
            place = max(able, key=lambda i: count[i])
        free[place][0] -= share
        free[place][1] -= 1 if gpu else 0
        count[place] += 1
    return any(cpus >= 1.0 for cpus, _ in free)
