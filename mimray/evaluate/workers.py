"""Who computes: this very process, or Ray's tasks, each with resources that it declares.

Both do the same with the same files, so results depend on it by no more than the rounding of float32, which
is another with another number of threads, or on another device.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mimray.errors import MimrayError, RunFailed, Stopped, UserError, own_words
from mimray.evaluate.extraction import Extraction
from mimray.evaluate.layer_files import Features

T = TypeVar("T")
Say = Callable[[str], None]
_MOST_THREADS = 16  # that decode for one GPU, or compute in one task
_TASKS = 4  # for each GPU: a process to start costs seconds, a host that is lost costs a task


@dataclass(frozen=True)
class Share:
    """What one task reserves: whole CPUs, and a GPU or none."""

    cpus: int = 1
    gpus: int = 0

    @property
    def device(self) -> str:
        """Torch's name of where it computes."""
        return "cuda" if self.gpus else "cpu"

    @property
    def readers(self) -> int:
        """Processes or threads that read pictures for the one that computes, which reads itself where
        there are none. A GPU is fed by all CPUs but the one that drives it; else one of four reads."""
        return max(1, self.cpus - 1) if self.gpus else min(self.cpus - 1, max(1, self.cpus // 4))

    @property
    def threads(self) -> int:
        """Torch's threads while others read: what `readers` leave of the CPUs."""
        return max(1, self.cpus - self.readers)

    def options(self) -> dict[str, Any]:
        """As `ray.remote(**options)` takes them. Said there, a task with a GPU has a process of its own,
        which frees the device as it ends; Ray's `.options()` says too late that it is to have one."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


class Workers(Protocol):
    """Whoever computes."""

    def extract(self, extraction: Extraction) -> Features:
        """Features that are whole: what is missing of them is computed."""
        ...

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """`function(*arguments, device=...)`, where a task computes."""
        ...


OpenWorkers = Callable[[], AbstractContextManager[Workers]]
"""Opened only when there is something to compute: a Ray takes seconds to start."""


# ----- here ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """Satisfies `Workers`: in this process."""

    share: Share = Share()

    def extract(self, extraction: Extraction) -> Features:
        return extract_here(extraction, self.share)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments, device=self.share.device)


def extract_here(extraction: Extraction, share: Share) -> Features:
    """Compute what is missing of the features, shard by shard, without Ray."""
    for number in extraction.missing():
        extraction.compute(number, share.device, max(1, share.readers))
    return extraction.join()


@contextmanager
def here() -> Iterator[Workers]:
    """With the machine's first GPU, if it has one."""
    import torch

    cores = len(os.sched_getaffinity(0))
    yield Here(Share(min(cores, _MOST_THREADS), int(torch.cuda.is_available())))


# ----- Ray ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnRay:
    """Satisfies `Workers`: on the Ray that is connected."""

    share: Share
    say: Say

    def extract(self, extraction: Extraction) -> Features:
        import ray

        missing = extraction.missing()
        what = ray.put(extraction)
        task = ray.remote(**self.share.options())(_compute)
        dealt = deal(missing, self.share)
        pending = {task.remote(what, numbers, self.share): numbers for numbers in dealt}
        done = 0
        for numbers, answer in finished(pending):
            if isinstance(answer, BaseException):
                raise in_own_words(answer) from None
            done += len(numbers)
            self.say(f"features of {extraction.source.uri}: {done}/{len(missing)} shards")
        return extraction.join()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Without GPUs it has the largest host's CPUs: features were a task a CPU, this is one task."""
        import ray

        share = self.share if self.share.gpus else Share(min(_most_cpus(), _MOST_THREADS))
        task = ray.remote(**share.options())(_call)
        reference = task.remote(function, arguments, share)
        ((_, answer),) = finished({reference: None})
        if isinstance(answer, BaseException):
            raise in_own_words(answer) from None
        result: T = answer
        return result


@contextmanager
def on_ray(say: Say) -> Iterator[Workers]:
    """A Ray for the time of the block: as `mimray.train.cluster.ray_session` has it."""
    with session() as share:
        yield OnRay(share, say)


@contextmanager
def session(cpus: int | None = None) -> Iterator[Share]:
    """Connect to Ray for the time of the block; yields what a task reserves.

    `cpus`: that many, and no GPU; when not given, a GPU with its part of its host's CPUs where there are
    GPUs, else one CPU. Raises UserError where no host has as much, and Stopped when asked to stop.
    """
    from mimray.train.cluster import ray_session
    from mimray.train.signals import leave_on_request

    try:
        # in this order, for Ray puts handlers of its own in place when it starts
        with ray_session(max(1, (cpus or 1) - 1)), leave_on_request():
            yield _share(cpus)
    except SystemExit:
        raise Stopped("stopped; the same command goes on") from None


def _hosts() -> list[dict[str, float]]:
    """What each host that is alive has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _most_cpus() -> int:
    """Of the largest host."""
    return int(max(host.get("CPU", 0) for host in _hosts()))


def _share(cpus: int | None) -> Share:
    if cpus is not None:
        if cpus > (most := _most_cpus()):
            raise UserError(f"--cpus {cpus}: the largest host has {most}; ask for no more")
        return Share(cpus)
    parts = [int(h.get("CPU", 0) // h["GPU"]) for h in _hosts() if h.get("GPU", 0) >= 1]
    if not parts:
        return Share()
    driven = [part for part in parts if part >= 1]  # no task is placed where a GPU has no CPU
    if not driven:
        raise UserError(
            "no host has a CPU for each of its GPUs, to drive it; start Ray there with --num-cpus of as "
            "many as --num-gpus or more"
        )
    return Share(min(*driven, _MOST_THREADS), 1)


def deal(missing: Sequence[int], share: Share) -> list[Sequence[int]]:
    """Which shards each task computes: one, or, where a task is a process of its own that has a GPU, a run
    of them, so that each GPU has a few tasks."""
    if not share.gpus:
        return [[number] for number in missing]
    slots = sum(int(host["GPU"]) for host in _hosts() if host.get("GPU", 0) >= 1)
    each = max(1, math.ceil(len(missing) / (_TASKS * max(1, slots))))
    return [missing[start : start + each] for start in range(0, len(missing), each)]


def finished(pending: dict[Any, T]) -> Iterator[tuple[T, Any]]:
    """What tasks are for, and what each returned or the error that it ended with, as they end.

    Those that are still to come are cancelled when nobody waits for them any more.
    """
    import ray

    try:
        while pending:
            (reference,), _ = ray.wait(list(pending), num_returns=1)
            which = pending.pop(reference)
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayError as error:
                answer = error
            yield which, answer
    finally:
        for reference in pending:
            ray.cancel(reference)  # by force, Ray 2.60 may abort where an answer is on its way


def in_own_words(error: BaseException) -> MimrayError:
    """What a task ended with, as an error of ours in one line."""
    cause = getattr(error, "cause", error)
    words = own_words(error)
    if words is not None:
        return UserError(words) if isinstance(cause, UserError) else RunFailed(words)
    line = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return RunFailed(f"a task failed: {line}")


def _compute(extraction: Extraction, numbers: Sequence[int], share: Share) -> None:
    """Shards one after another; of a task that is started again only those that are missing."""
    _use(share.threads)
    for number in numbers:
        extraction.compute(number, share.device, max(1, share.readers))


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], share: Share) -> Any:
    _use(share.cpus)
    return function(*arguments, device=share.device)


def _use(threads: int) -> None:
    """Torch's, in a process that may have run another task before."""
    import torch

    torch.set_num_threads(threads)
