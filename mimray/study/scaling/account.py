"""What a study holds of a cluster: where a step has room, and what it takes there.

Ray knows what an actor reserves, and what a group of trainers does once it has started; that takes seconds,
and a group that finds no room waits. So nothing is started that this account has no room for, and what is
asked for does not change with what happens to be free: a run on a GPU does not become one on CPUs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mimray.errors import UserError
from mimray.evaluate.workers import Share
from mimray.recipe import Recipe, TrainingRecipe
from mimray.study.placing import plan_trials, trains_here
from mimray.study.scaling.steps import Place
from mimray.train.resources import Layout, Node, lay_out

_DATA = 1.0  # CPU that reads for a group of trainers


@dataclass(frozen=True)
class Need:
    """Of a step: `share`, what its own process has; `layout`, of a group of trainers besides."""

    share: Share
    layout: Layout | None = None

    @property
    def cpus(self) -> float:
        """All together."""
        group = self.layout
        return self.share.cpus + (group.workers * group.cpus_per_worker + _DATA if group else 0)

    @property
    def gpus(self) -> float:
        """All together."""
        group = self.layout
        return self.share.gpus + (group.workers if group and group.use_gpu else 0)


@dataclass(frozen=True)
class Taken:
    """A need that has room: `host`, by number, of its process, and what it takes of each host."""

    need: Need
    host: int
    cpus: tuple[float, ...]
    gpus: tuple[float, ...]

    def is_on(self, hosts: Collection[int]) -> bool:
        """Whether its process, or something that it takes, is on one of these."""
        takes = (n for n, (c, g) in enumerate(zip(self.cpus, self.gpus, strict=True)) if c or g)
        return any(number in hosts for number in (self.host, *takes))

    @property
    def place(self) -> Place:
        """For the step."""
        group = self.need.layout
        if group is None:
            return Place(self.need.share)
        speed: dict[str, Any] = {
            "workers": group.workers,
            "device": "gpu" if group.use_gpu else "cpu",
            "cpus_per_worker": group.cpus_per_worker,
        }
        return Place(self.need.share, tuple(speed.items()))


def need_of(recipe: TrainingRecipe | None, own: Recipe, hosts: Sequence[Node]) -> Need:
    """What a step needs of a cluster that is empty. `recipe`: its run's, or None for a single process on a
    device like that of `own`.

    Raises UserError where even an empty cluster has no room for it.
    """
    if recipe is None:
        return Need(plan_trials(own, hosts).measuring)
    if trains_here(recipe):
        alike = own.model_copy(update={"speed": recipe.speed})
        return Need(plan_trials(alike, hosts).share)
    return Need(Share(0), lay_out(recipe.speed, list(hosts)))


class Account:
    """What is free of each host, by what this study has taken. `hosts`: what each has while it is empty;
    `away`: those that are lost, by number, which have nothing."""

    def __init__(self, hosts: Sequence[Node]) -> None:
        self.hosts = list(hosts)
        self.free = list(hosts)
        self.away: set[int] = set()

    def close(self, host: int) -> None:
        """It is lost, or about to be: nothing has room there, and nothing is given back."""
        self.away.add(host)
        for nodes in (self.hosts, self.free):
            nodes[host] = replace(nodes[host], cpus=0.0, gpus=0.0)

    def join(self, host: Node) -> None:
        """One that was not there before."""
        self.hosts.append(host)
        self.free.append(host)

    def find(
        self,
        need: Need,
        placement: str = "spread",
        closed: Collection[int] = (),
        near: int | None = None,
    ) -> Taken | None:
        """Where there is room now, or None. `closed`: hosts that wait for somebody else; `near`: the one
        to prefer, for a process that is warm stands there."""
        if need.layout is None:
            return self._alone(need, closed, near)
        return self._group(need, need.layout, placement, closed)

    def _alone(self, need: Need, closed: Collection[int], near: int | None) -> Taken | None:
        share = need.share
        able = [
            number
            for number, host in enumerate(self.free)
            if number not in closed and host.cpus >= share.cpus and host.gpus >= share.gpus
        ]
        if not able:
            return None
        host = near if near in able else max(able, key=lambda n: self.free[n].cpus)
        assert host is not None
        return self._taken(need, host, {host: (share.cpus, share.gpus)})

    def _group(
        self, need: Need, layout: Layout, placement: str, closed: Collection[int]
    ) -> Taken | None:
        """Trainers one by one as Ray places them, then a whole CPU for the data."""
        gpus = 1.0 if layout.use_gpu else 0.0
        left = {n: [h.cpus, h.gpus] for n, h in enumerate(self.free) if n not in closed}
        took: dict[int, tuple[float, float]] = {}
        count = dict.fromkeys(left, 0)
        for _ in range(layout.workers):
            able = [n for n, (c, g) in left.items() if c >= layout.cpus_per_worker and g >= gpus]
            if not able:
                return None
            choose = min if placement == "spread" else max
            host = choose(able, key=lambda n: count[n])
            _move(left, took, host, layout.cpus_per_worker, gpus)
            count[host] += 1
        able = [n for n, (c, _) in left.items() if c >= _DATA]
        if not able:
            return None
        _move(left, took, max(able, key=lambda n: left[n][0]), _DATA, 0.0)
        return self._taken(need, next(iter(took)), took)

    def _taken(self, need: Need, host: int, took: dict[int, tuple[float, float]]) -> Taken:
        none = (0.0, 0.0)
        cpus, gpus = zip(*(took.get(n, none) for n in range(len(self.free))), strict=True)
        return Taken(need, host, cpus, gpus)

    def take(self, taken: Taken) -> None:
        """It is in use."""
        self._add(taken, -1)

    def give(self, taken: Taken) -> None:
        """It is free again."""
        self._add(taken, 1)

    def _add(self, taken: Taken, sign: int) -> None:
        for number, (cpus, gpus) in enumerate(zip(taken.cpus, taken.gpus, strict=True)):
            if number not in self.away:
                now = self.free[number]
                self.free[number] = replace(
                    now, cpus=now.cpus + sign * cpus, gpus=now.gpus + sign * gpus
                )

    def waiting_for(self, need: Need, placement: str = "spread") -> set[int]:
        """The hosts that a need which has no room now waits for: those that it would have in an empty
        cluster, so that nobody else who comes later keeps it waiting for ever. None where hosts are lost,
        and all that are left have no room."""
        taken = Account(self.hosts).find(need, placement)
        return {n for n in range(len(self.hosts)) if taken is not None and taken.is_on({n})}

    def at_once(self, need: Need, placement: str = "spread") -> int:
        """How many such steps the empty cluster has room for."""
        empty, count = Account(self.hosts), 0
        while (taken := empty.find(need, placement)) is not None and count < 10_000:
            empty.take(taken)
            count += 1
        return count


def check_room(account: Account, need: Need, what: str, placement: str) -> None:
    """Raises UserError where not even the empty cluster has room."""
    if account.at_once(need, placement) < 1:
        raise UserError(
            f"{what}: needs {need.cpus:g} CPUs and {need.gpus:g} GPUs, and no hosts here have them "
            f"together; lower speed.workers or speed.cpus_per_worker"
        )


def _move(
    left: dict[int, list[float]],
    took: dict[int, tuple[float, float]],
    host: int,
    cpus: float,
    gpus: float,
) -> None:
    left[host][0] -= cpus
    left[host][1] -= gpus
    before = took.get(host, (0.0, 0.0))
    took[host] = (before[0] + cpus, before[1] + gpus)
