"""What a trial needs of a cluster, how many go at once, and where its files lie from any host."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mimray.errors import UserError
from mimray.evaluate.workers import Share
from mimray.recipe import Recipe, Speed, TrainingRecipe
from mimray.study.cell import Cell
from mimray.train.parent import store_of
from mimray.train.resources import Node, cluster_nodes, lay_out
from mimray.train.run_folder import RunFolder

R = TypeVar("R", bound=TrainingRecipe)
_CPUS = 4  # of a trial that computes on CPUs alone; more make a small model little quicker
_FEEDING = 16  # that decode for one GPU
_ROOM_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """`share`: what the process of a trial reserves, all that it needs where it trains by itself;
    `measuring`: what one process may have of a trial's resources while its trainers are not there;
    `at_once`: trials that the cluster has room for. (Tune knows nothing of what trainers reserve.)"""

    share: Share
    measuring: Share
    at_once: int


def plan_trials(recipe: Recipe, hosts: Sequence[Node]) -> Plan:
    """For trials that are all of this kind, on hosts with nothing else to do.

    A recipe of one trainer trains in the trial's own process, with a GPU and its part of the host's CPUs
    where there are GPUs, or a few CPUs: on a small machine one trial goes at a time. Of several trainers
    each trial has a group of Ray Train. Raises UserError where not even one fits.
    """
    speed = recipe.speed
    most = int(max(host.cpus for host in hosts))
    if not trains_here(recipe):
        layout = lay_out(speed, list(hosts))
        cpus = layout.workers * layout.cpus_per_worker + 1  # a whole one for the data
        rooms = [sum(host.cpus for host in hosts) // cpus]
        measuring = Share(max(1, min(_CPUS, int(cpus), most)))
        if layout.use_gpu:
            rooms.append(sum(host.gpus for host in hosts) // layout.workers)
            measuring = Share(_feeding(hosts), 1)
        return Plan(Share(0), measuring, max(1, int(min(rooms))))
    with_gpus = [host for host in hosts if host.gpus >= 1]
    if speed.device == "gpu" and not with_gpus:
        raise UserError("speed.device=gpu and the cluster has none; set speed.device=cpu")
    if speed.device != "cpu" and with_gpus:
        share = Share(_feeding(hosts), 1)
        return Plan(share, share, int(sum(host.gpus for host in with_gpus)))
    asked = speed.cpus_per_worker
    one = min(_CPUS, most) if asked is None else math.ceil(asked)
    if most < 1:
        raise UserError("no host of the cluster has a whole CPU free; wait for others to end")
    if one > most:
        raise UserError(
            f"speed.cpus_per_worker={asked:g}: the largest host has {most} CPUs free; ask for no more"
        )
    return Plan(Share(one), Share(one), int(sum(host.cpus // one for host in hosts)))


def hosts_here(workers: int) -> list[Node] | None:
    """What a private Ray will have, known without starting it; None where RAY_ADDRESS names a cluster.
    `workers`: of the largest group of trainers.

    Raises UserError for more of them than this machine can hold.
    """
    import torch

    from mimray.train.cluster import check_memory, private_cpus

    if os.environ.get("RAY_ADDRESS"):
        return None
    check_memory(workers)
    return [Node("this machine", private_cpus(workers), torch.cuda.device_count())]


def _feeding(hosts: Sequence[Node]) -> int:
    """CPUs for each GPU, of hosts that have any."""
    parts = [int(host.cpus // host.gpus) for host in hosts if host.gpus >= 1]
    return max(1, min(*parts, _FEEDING))


def plan_all(recipes: Sequence[Recipe], hosts: Sequence[Node]) -> Plan:
    """For trials that go side by side. Raises UserError where they do not take the same, or as above."""
    plans = [plan_trials(recipe, hosts) for recipe in recipes]
    if len({(plan.share, plan.measuring) for plan in plans}) > 1:
        raise UserError(
            "some trials ask for more of the cluster than others; set speed.workers, speed.device and "
            "speed.cpus_per_worker alike for all"
        )
    return min(plans, key=lambda plan: plan.at_once)


def trains_here(recipe: TrainingRecipe) -> bool:
    """Whether a run needs no group of trainers: it starts in a second or two, and not in twenty."""
    return recipe.speed.most_workers == 1


def placed(recipe: R, share: Share) -> tuple[R, bool]:
    """A recipe with the `speed` that a trial's share allows, and whether it trains in its own process."""
    if not trains_here(recipe):
        return recipe, False
    speed = {
        "device": "gpu" if share.gpus else "cpu",
        "loader": "torch",
        "loader_processes": share.readers,
    }
    return recipe.model_copy(update={"speed": recipe.speed.model_copy(update=speed)}), True


def wait_for_room(speed: Speed) -> None:
    """Until a group of trainers fits, two minutes at most: a trial that was ended gives back what its
    trainers had a while after Tune has started the next."""
    until = time.monotonic() + _ROOM_SECONDS
    while time.monotonic() < until:
        try:
            lay_out(speed, cluster_nodes())
            return
        except UserError:  # the run itself says so, where it stays like that
            time.sleep(0.5)


def storage_of(cell: Cell) -> str:
    """Folder or URI that a cell's run lies in; the options of a URI (`?region=...`) stay at its end."""
    head, mark, options = RunFolder.of(cell.recipe).uri.partition("?")
    return head.rpartition("/")[0] + mark + options


def settled(cell: Cell) -> Cell:
    """A cell that means the same in every folder: storage and MLflow's store by absolute addresses."""
    recipe = cell.recipe
    tracking = store_of({"run": {"tracking": recipe.run.tracking}})
    update = {"storage": storage_of(cell), "tracking": tracking}
    return Cell(
        cell.values, recipe.model_copy(update={"run": recipe.run.model_copy(update=update)})
    )
