"""Processes that run steps, kept warm for the next one: torch is imported once, and Ray asked once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mimray.errors import MimrayError
from mimray.evaluate.workers import Share
from mimray.study.cell import Cell
from mimray.study.placing import wait_for_room
from mimray.study.scaling.steps import Drawings, Place, Step
from mimray.train.resources import Node

_STOP_SECONDS = 30.0  # for checkpoints to be written


class Work(NamedTuple):
    """One step of one cell, at its place."""

    cell: Cell
    step: Step
    place: Place


class Host(NamedTuple):
    """A living host: Ray's name of it, and what nobody uses."""

    id: str
    node: Node


def living_hosts() -> list[Host]:
    """Of the connected cluster, those that will stay."""
    import ray
    from ray._private.state import available_resources_per_node, state

    free, leaving = available_resources_per_node(), state.get_draining_nodes()
    return [
        Host(
            node["NodeID"],
            Node(node["NodeManagerHostname"], have.get("CPU", 0.0), have.get("GPU", 0.0)),
        )
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
        for have in [free.get(node["NodeID"], {})]
    ]


class Runner:
    """What becomes an actor."""

    def __init__(self, folder: str) -> None:
        if Path(
            folder
        ).is_dir():  # on this machine; elsewhere a recipe's paths must be absolute anyway
            os.chdir(folder)

    def pid(self) -> int:
        """Of this process, on its host."""
        return os.getpid()

    def run(self, work: Work, drawings: Drawings) -> str | None:
        """Measure a step: None, or in a line why it failed."""
        import torch

        torch.set_num_threads(work.place.share.threads)
        try:
            if work.place.speed:
                wait_for_room(work.cell.recipe.speed.model_copy(update=dict(work.place.speed)))
            work.step.measure(work.cell, work.place, drawings)
        except MimrayError as error:
            return str(error)
        finally:
            if work.place.share.gpus:
                torch.cuda.empty_cache()  # what this model kept, another one may want in other pieces
        return None


@dataclass
class Actor:
    """A process on a host, by number. `busy`: whether a step runs in it."""

    handle: Any
    pid: Any
    host: int
    share: Share
    busy: bool = False


@dataclass
class Runners:
    """The processes of a study. `hosts`: as the account numbers them, also those that are lost."""

    hosts: list[Host]
    drawings: Any = None
    actors: list[Actor] = field(default_factory=list)

    def warm(self, share: Share) -> int | None:
        """A host on which a process with this share waits."""
        return next((a.host for a in self.actors if a.share == share and not a.busy), None)

    def look(self) -> tuple[set[int], list[Node]]:
        """Hosts that are lost or about to be, by number, where no process waits any more; and those that
        have joined, which have the next numbers."""
        living = living_hosts()
        there, known = ({host.id for host in hosts} for hosts in (living, self.hosts))
        away = {number for number, host in enumerate(self.hosts) if host.id not in there}
        self._end([a for a in self.actors if not a.busy and a.host in away])
        # one that has only just joined has told nobody yet what it has
        joined = [h for h in living if h.id not in known and (h.node.cpus or h.node.gpus)]
        self.hosts += joined
        return away, [host.node for host in joined]

    def start(self, work: Work, host: int) -> tuple[Any, Actor]:
        """Hand a step over: Ray's reference of its end, and who runs it."""
        share = work.place.share
        idle = [a for a in self.actors if not a.busy and a.host == host and a.share == share]
        if work.place.speed:
            self._end(
                [a for a in self.actors if not a.busy and a.share.cpus]
            )  # trainers need the room
        actor = idle[0] if idle else self._new(host, share)
        actor.busy = True
        return actor.handle.run.remote(work, self.drawings), actor

    def ended(self, references: Sequence[Any], seconds: float) -> list[Any]:
        """Those of the references whose steps have ended; waits for the first, but not longer."""
        import ray

        if not references:
            time.sleep(seconds)
            return []
        done: list[Any] = ray.wait(list(references), num_returns=1, timeout=seconds)[0]
        return done

    def answer(self, reference: Any) -> tuple[Any, bool]:
        """What a step returned or the error that it ended with, and whether its process is gone."""
        import ray

        try:
            return ray.get(reference), False
        except ray.exceptions.RayTaskError as error:
            return error, False
        except ray.exceptions.RayError as error:
            return error, True

    def ask_to_stop(self, actors: Sequence[Actor]) -> None:
        """The runs in them, where they are on this host, end with a checkpoint; others go on from their
        last one."""
        import ray

        here = ray.get_runtime_context().get_node_id()
        for actor in actors:
            if self.hosts[actor.host].id == here:
                with suppress(ray.exceptions.RayError, ProcessLookupError):
                    os.kill(ray.get(actor.pid, timeout=1.0), signal.SIGTERM)

    def wait(self, references: Sequence[Any]) -> None:
        """For steps that were asked to stop."""
        import ray

        ray.wait(list(references), num_returns=len(references), timeout=_STOP_SECONDS)

    def lost(self, actor: Actor) -> None:
        """Its process is gone."""
        self._end([actor])

    def close(self) -> None:
        """End them all."""
        self._end(list(self.actors))

    def _new(self, host: int, share: Share) -> Actor:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # an idle one of another share holds what the account knows to be free
        self._end([a for a in self.actors if not a.busy and a.host == host and a.share.cpus])
        pin = NodeAffinitySchedulingStrategy(self.hosts[host].id, soft=False)
        options = {**share.options(), "scheduling_strategy": pin, "max_restarts": 0}
        handle: Any = ray.remote(**options)(Runner).remote(str(Path.cwd()))
        self.actors.append(actor := Actor(handle, handle.pid.remote(), host, share))
        return actor

    def _end(self, actors: Sequence[Actor]) -> None:
        import ray

        for actor in actors:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.kill(actor.handle)
            if actor in self.actors:
                self.actors.remove(actor)
