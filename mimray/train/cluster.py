"""Which Ray a run uses: the one that RAY_ADDRESS names, or a private one that ends with the run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mimray.environment import QUIET
from mimray.errors import RunFailed, UserError
from mimray.train.host_memory import free_memory
from mimray.train.processes import end_workers_of

log = logging.getLogger("mimray")
_PREFIX = "mimray-"
_TRAINER = 0.75 * 2**30
"""Bytes of a trainer with torch and a small model, without what it shares with others."""
_PRIVATE = {
    "RAY_enable_metrics_collection": "0",  # nobody looks
    "RAY_task_events_report_interval_ms": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one host, which nobody takes away
    # glibc gives memory back to the kernel at every step otherwise: 2,650 page faults a step, 8 % of its
    # time on a CPU
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
}
"""Environment of a private Ray's processes: what costs time and serves clusters only is off."""


@contextmanager
def ray_session(workers: int) -> Iterator[bool]:
    """Connect to Ray for the time of the block; yields whether it is a private one.

    `ray job submit` sets RAY_ADDRESS. Without it nothing is searched for: a Ray that happens to run
    on this machine is somebody else's. A private Ray listens on loopback, asks for the token that
    `mimray.environment.prepare` made, and has as many logical CPUs as the trainers and the data
    need, however few the machine has.

    Raises UserError where RAY_ADDRESS is wrong, and for more trainers than this machine can hold.
    """
    import ray

    if ray.is_initialized():  # in a trial or a cell: Ray is its driver's to end
        yield False
        return
    address = os.environ.get("RAY_ADDRESS")
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": _workers_environment()},
    }
    if address:
        try:
            ray.init(address=address, **common)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"RAY_ADDRESS={address}: no Ray lets us in there ({why}); give its address and token, "
                f"or unset RAY_ADDRESS to use a private one"
            ) from None
        try:
            yield False
        finally:
            ray.shutdown()
        return
    check_memory(workers)
    for name, value in _PRIVATE.items():
        os.environ.setdefault(name, value)
    with _private_folder() as folder, _few_servers():
        try:
            ray.init(
                address="local",
                num_cpus=private_cpus(workers),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder / "r"),  # to which Ray lets everybody in; our folder does not
                **common,
            )
        except Exception as error:  # Ray raises of every kind where its processes are late
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunFailed(f"Ray did not start on this machine ({why}); try again") from None
        try:
            yield True
        finally:
            ray.shutdown()


def _workers_environment() -> dict[str, str]:
    """`QUIET` for the workers, without what the job was submitted with: Ray takes no name twice."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: os.environ[name] for name in QUIET if name in os.environ and name not in given}


@contextmanager
def _few_servers() -> Iterator[None]:
    """Start a Ray head without servers that a single host has no use for.

    The API server without a dashboard has one duty, usage statistics, and even with those switched off
    it asks the cloud metadata addresses which cloud it is on (ray 2.60, `UsageStatsHead.run`). The log
    monitor forwards what nobody reads (`log_to_driver`), the monitor asks for hosts that there are not.
    Ray Train's cleaner asks the API server whether its controller lives, and keeps the end of every group
    of trainers waiting for the answer, 13 s; a placement group goes with the actor that made it anyway.

    They get a session of their own: `timeout`, a batch system or a terminal that closes send their signal
    to the whole process group, and servers that die at once would leave the driver no Ray to stop with.
    When the driver dies, the kernel ends them, as Ray has asked it to.
    """
    from ray._private import services
    from ray._private.node import Node
    from ray._private.utils import detect_fate_sharing_support
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2.api import data_parallel_trainer as train

    api, logs, monitor = services.start_api_server, Node.start_log_monitor, Node.start_monitor
    cleaner, popen = train.PlacementGroupCleanerCallback, services.ConsolePopen
    if detect_fate_sharing_support():
        services.ConsolePopen = partial(popen, start_new_session=True)  # type: ignore
    services.start_api_server = lambda *_, **__: (None, None)
    train.PlacementGroupCleanerCallback = ControllerCallback  # type: ignore
    Node.start_log_monitor = Node.start_monitor = lambda _: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        services.start_api_server, services.ConsolePopen = api, popen  # type: ignore[misc]
        train.PlacementGroupCleanerCallback = cleaner  # type: ignore[misc]
        Node.start_log_monitor, Node.start_monitor = logs, monitor  # type: ignore[method-assign]


def check_memory(workers: int) -> None:
    """Raises UserError for more trainers than this machine can hold: sixty on a laptop would take other
    processes with them."""
    need, free = workers * _TRAINER, free_memory()
    if workers > len(os.sched_getaffinity(0)) and need > free:
        raise UserError(
            f"speed.workers={workers}: so many trainers take {need / 2**30:.0f} GiB or more, and "
            f"this machine has {free / 2**30:.0f} GiB free; ask for fewer, or name a cluster by RAY_ADDRESS"
        )


def private_cpus(workers: int) -> int:
    """Logical CPUs of a private Ray: the machine's, or one a trainer and one for the data."""
    return max(len(os.sched_getaffinity(0)), workers + 1)


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for a private Ray's sockets and logs, gone afterwards.

    Those of processes that were killed are removed here: the lock in them is free. (A short path,
    for the name of a Unix socket has 107 bytes at most.)
    """
    parent = Path(tempfile.gettempdir())
    for stale in parent.glob(f"{_PREFIX}*/.lock"):
        try:
            with open(stale, "a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_workers_of(stale.parent)  # of a driver that was killed
                shutil.rmtree(stale.parent, ignore_errors=True)
        except OSError:
            continue  # in use, or not ours
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with open(folder / ".lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            end_workers_of(folder)  # Ray's own of a group that died can stay for ever, 0.8 GiB each
            shutil.rmtree(folder, ignore_errors=True)
