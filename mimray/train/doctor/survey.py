"""Ask every host of the connected cluster: a small actor on each, gone afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimray.data.sources import Source
from mimray.errors import MimrayError, UserError
from mimray.train.doctor.demand import Link, Storage
from mimray.train.doctor.host import Host, Seen, look_around
from mimray.train.doctor.storage import time_pictures, time_storage

_ANSWER_SECONDS = 60.0  # the first answer takes a process that imports Ray and pyarrow
_PINGS = 5
_LINK_BYTES = 16 * 2**20
_WARM_UP_BYTES = 2**20  # smaller objects travel with the answer, not from store to store
_LINKS = 16  # that are measured, one after another


@ray.remote(num_cpus=0)
class Probe:
    """A process on one host."""

    def look(self, runs: str | None, ray_gpus: float) -> Seen:
        """See `look_around`."""
        from ray._private.authentication.authentication_utils import is_token_auth_enabled

        return look_around(runs, is_token_auth_enabled(), ray_gpus)

    def now(self) -> float:
        """This host's clock."""
        return time.time()

    def give(self, size: int) -> np.ndarray:
        """So many bytes, into this host's object store."""
        return np.ones(size, dtype=np.uint8)

    def take(self, wrapped: list[ray.ObjectRef]) -> float:
        """Seconds until they are here; in a list, for Ray fetches bare arguments beforehand."""
        began = time.perf_counter()
        ray.get(wrapped[0])
        return time.perf_counter() - began

    def storage(self, uri: str) -> tuple[float, float] | str:
        """See `time_storage`; or why not."""
        try:
            return time_storage(uri)
        except (OSError, MimrayError) as error:
            return str(error)

    def pictures(self, source: Source, place: float) -> float | str:
        """See `time_pictures`; or why not."""
        try:
            return time_pictures(source, place)
        except (OSError, MimrayError) as error:
            return str(error)


@dataclass(frozen=True)
class Asked:
    """A host of Ray's list and the probe on it."""

    name: str
    resources: dict[str, float]
    probe: Any

    def get(self, answer: ray.ObjectRef) -> Any:
        """What it answers; raises UserError where it does not."""
        try:
            return ray.get(answer, timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise UserError(
                f"host {self.name} does not answer ({why}); wait until Ray has given it up, or mend it"
            ) from None


@contextmanager
def probes() -> Iterator[list[Asked]]:
    """A probe on each living host, for the time of the block."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = []
    for node, name in zip(nodes, _names(nodes), strict=True):
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        probe = Probe.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
        asked.append(Asked(name, node["Resources"], probe))
    try:
        yield asked
    finally:
        for one in asked:
            ray.kill(one.probe)


def _names(nodes: list[dict[str, Any]]) -> list[str]:
    """Host names; where one has several of Ray's nodes, with their ports."""
    names = [node["NodeManagerHostname"] for node in nodes]
    return [
        name if names.count(name) == 1 else f"{name}:{node['NodeManagerPort']}"
        for name, node in zip(names, nodes, strict=True)
    ]


def look_at_hosts(asked: list[Asked], runs: str | None) -> list[Host]:
    """What each has and sees, and how far its clock is from this one's."""
    looks = [one.probe.look.remote(runs, one.resources.get("GPU", 0.0)) for one in asked]
    hosts = []
    for one, look in zip(asked, looks, strict=True):
        seen, (ahead, within) = one.get(look), _clock(one)
        store = int(one.resources.get("object_store_memory", 0))
        cpus, gpus = one.resources.get("CPU", 0.0), one.resources.get("GPU", 0.0)
        hosts.append(Host(one.name, cpus, gpus, store, seen, ahead, within))
    return hosts


def _clock(one: Asked) -> tuple[float, float]:
    """Seconds that a host's clock is ahead, give or take: of the quickest of some questions, with the
    answer taken as given half-way (Cristian, 1989)."""
    tries = []
    for _ in range(_PINGS):
        asked = time.time()
        told = one.get(one.probe.now.remote())
        answered = time.time()
        tries.append(((answered - asked) / 2, told - (asked + answered) / 2))
    within, ahead = min(tries)
    return ahead, within


def measure_links(asked: list[Asked]) -> list[Link]:
    """From each host to the next and round, one at a time, some of them where there are many."""
    if len(asked) < 2:
        return []
    pairs = list(zip(asked, asked[1:] + asked[:1], strict=True))[:_LINKS]
    return [Link(a.name, b.name, _LINK_BYTES / _carry(a, b, _LINK_BYTES)) for a, b in pairs]


def _carry(a: Asked, b: Asked, size: int) -> float:
    b.get(b.probe.take.remote([a.probe.give.remote(_WARM_UP_BYTES)]))  # connects the two
    load = a.probe.give.remote(size)
    ray.wait([load], fetch_local=False, timeout=_ANSWER_SECONDS)
    seconds: float = b.get(b.probe.take.remote([load]))
    return seconds


def measure_storage(asked: list[Asked], uri: str, source: Source | None) -> list[Storage]:
    """Each host at a time, for they share what they measure; each reads pictures that are its own.

    Raises UserError, naming the host, where one cannot.
    """
    measured = []
    for k, one in enumerate(asked):
        write, read = _or_raise(one, one.get(one.probe.storage.remote(uri)), "run.storage")
        pictures = None
        if source is not None:
            place = (k + 0.5) / len(asked)
            answer = one.get(one.probe.pictures.remote(source, place))
            pictures = _or_raise(one, answer, "data.train")
        measured.append(Storage(one.name, write, read, pictures))
    return measured


def _or_raise(one: Asked, answer: Any, setting: str) -> Any:
    if isinstance(answer, str):
        raise UserError(f"host {one.name}: {setting}: {answer}; name a place that all hosts share")
    return answer
