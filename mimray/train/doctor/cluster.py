"""All checks of a cluster, in one connection to it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any, TypeVar

import ray
import torch

from mimray.data.framing import Framing
from mimray.data.sources import Source
from mimray.errors import UserError, own_words
from mimray.recipe import Recipe
from mimray.train.cluster import ray_session
from mimray.train.doctor.demand import (
    Decoding,
    Demand,
    judge_decoding,
    judge_memory,
    judge_network,
    judge_storage,
)
from mimray.train.doctor.finding import Finding
from mimray.train.doctor.host import Host, versions
from mimray.train.doctor.room import judge_disks, judge_gpus, judge_shared_memory
from mimray.train.doctor.software import judge_clocks, judge_token, judge_versions
from mimray.train.doctor.storage import time_decoding
from mimray.train.doctor.survey import (
    Asked,
    look_at_hosts,
    measure_links,
    measure_storage,
    probes,
)
from mimray.train.job import Job
from mimray.train.prediction import CHECKPOINTS, Prediction, predict
from mimray.train.resources import Layout, cluster_nodes, lay_out
from mimray.train.run_folder import RunFolder, remove_empty
from mimray.train.shared import check_hosts

T = TypeVar("T")
_TASK_SECONDS = 180.0


Note = Callable[[Finding], None]


def examine_cluster(recipe: Recipe, job: Job | None, note: Note) -> list[Host]:
    """Ask the Ray that RAY_ADDRESS names, and note what is found, as it is found; nothing stays there.

    `job`: the recipe with its data, None where these or the model are faulty. Returns what the hosts have.
    Raises UserError where no Ray lets us in.
    """
    hosts: list[Host] = []
    with ray_session(recipe.speed.most_workers), probes() as asked:
        try:
            run = RunFolder.of(recipe)
            hosts += look_at_hosts(asked, run.path if run.local else None)
            _examine(recipe, job, asked, hosts, note)
        except UserError as error:  # a host, or a task, that does not answer
            note(Finding("hosts", str(error), "mend"))
    return hosts


def _examine(
    recipe: Recipe, job: Job | None, asked: list[Asked], hosts: list[Host], note: Note
) -> None:
    """From what is known at once to what takes seconds."""
    room, layout = _layout(recipe, hosts)
    note(room)
    _note_all(judge_versions(hosts, versions()), note)
    _note_all(judge_token(hosts, dashboard()), note)
    _note_all(judge_clocks(hosts, recipe.run.storage), note)
    _note_all(judge_shared_memory(hosts), note)
    _note_all(judge_gpus(hosts), note)
    demand = decoding = None
    if job is not None and layout is not None:
        demand, decoding = _demand(recipe, job, layout, len(hosts)), _decoding(job)
    kept = None if demand is None else CHECKPOINTS * demand.checkpoint
    _note_all(judge_disks(hosts, recipe.speed, kept), note)
    _note_all(judge_network(measure_links(asked), demand), note)
    if job is not None:
        _note_all(_storage(job, asked, decoding, demand), note)
    if demand is not None and decoding is not None and layout is not None:
        left = sum(host.cpus for host in hosts) - layout.workers * layout.cpus_per_worker
        _note_all(judge_memory(hosts, demand), note)
        _note_all(judge_decoding(left, decoding, demand), note)


def _note_all(findings: list[Finding], note: Note) -> None:
    for finding in findings:
        note(finding)


def _layout(recipe: Recipe, hosts: list[Host]) -> tuple[Finding, Layout | None]:
    """Is there room for the trainers now?"""
    names = ", ".join(f"{host.name} ({host.cpus:g} CPU, {host.gpus:g} GPU)" for host in hosts[:8])
    more = f" and {len(hosts) - 8} more" if len(hosts) > 8 else ""
    try:
        layout = lay_out(recipe.speed, cluster_nodes())
    except UserError as error:
        return Finding("hosts", str(error), "mend"), None
    kind = "a GPU" if layout.use_gpu else f"{layout.cpus_per_worker:g} CPU"
    text = f"{len(hosts)}: {names}{more}; {layout.workers} trainer(s) of {kind} each fit"
    return Finding("hosts", text), layout


def dashboard() -> str | None:
    """host:port that the job server of the connected cluster listens on, as it told the others."""
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_get

    address = _internal_kv_get(
        ray_constants.DASHBOARD_ADDRESS, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
    )
    return None if address is None else address.decode().rpartition("//")[2]


# ----- measured by tasks that reserve what a trainer or a data task does ----------------------------------


def _demand(recipe: Recipe, job: Job, layout: Layout, hosts: int) -> Demand:
    """Predicted on a trainer's own device."""
    alone = recipe.model_copy(
        update={"speed": recipe.speed.model_copy(update={"workers": layout.workers})}
    )
    predicted = _task(_predict, alone, num_cpus=layout.cpus_per_worker, num_gpus=layout.use_gpu)
    spread = 1 if layout.use_gpu else min(hosts, layout.workers)  # a rate of CPUs is one host's
    return Demand(
        trainers=layout.workers,
        use_gpu=layout.use_gpu,
        micro_batch=predicted.micro_batch,
        memory=predicted.memory.total,
        gradients=predicted.memory.gradients,
        checkpoint=predicted.memory.weights + predicted.memory.moments,
        images_per_s=predicted.images_per_s * spread,
        batch=recipe.optim.batch,
        checkpoint_every=job.clock.steps(recipe.run.checkpoint_every),
    )


def _predict(recipe: Recipe) -> Prediction:
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # Ray has set it to what is reserved
    return predict(recipe, None)


def _decoding(job: Job) -> Decoding:
    return _task(
        _decode, _uncached(job.train_source), job.task.framing(True), num_cpus=1, num_gpus=0
    )


def _decode(source: Source, framing: Framing) -> Decoding:
    torch.set_num_threads(1)
    return time_decoding(source, framing)


def _task(function: Callable[..., T], *arguments: Any, num_cpus: float, num_gpus: float) -> T:
    """As one task of Ray's; raises UserError with its own words."""
    task = ray.remote(num_cpus=num_cpus, num_gpus=int(num_gpus), max_retries=0)(function)
    try:
        result: T = ray.get(task.remote(*arguments), timeout=_TASK_SECONDS)
    except ray.exceptions.RayError as error:
        why = own_words(error) or (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(f"a task of {num_cpus:g} CPU and {num_gpus:g} GPU failed: {why}") from None
    return result


def _storage(
    job: Job, asked: list[Asked], decoding: Decoding | None, demand: Demand | None
) -> list[Finding]:
    """Does every host see the run's folder and the pictures, and how quickly? Leaves no folder behind."""
    made = job.run.make()
    try:
        check_hosts(job)
        measured = measure_storage(asked, job.run.uri, _uncached(job.train_source))
        return judge_storage(measured, decoding, demand)
    except UserError as error:
        return [Finding("storage", str(error), "mend")]
    finally:
        remove_empty(made)


def _uncached(source: Source) -> Source:
    """To be read where it lies, and to leave nothing in a host's cache."""
    bare = copy.copy(source)
    bare.cache = None
    return bare
