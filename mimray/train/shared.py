"""Of several hosts: does each see the run's folder, the data and the files that the run starts from?"""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimray.data.sources import Source
from mimray.errors import MimrayError, UserError
from mimray.train.job import Job
from mimray.train.run_folder import RunFolder

_ANSWER_SECONDS = 120.0  # a busy host takes half a minute and more to start a process


def check_hosts(job: Job) -> None:
    """Ask every living host; raises UserError naming the first that lacks something.

    A trainer anywhere loads checkpoints and a data task anywhere reads pictures, so a folder that
    only the driver's host has would fail in mid-run, or worse, start the run again from nothing.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    here = (Path(job.folder, file).expanduser() for file in job.task.files)
    files = [
        str(file) for file in here if file.exists()
    ]  # others are in a cache of each host's own
    marker = f".seen-{secrets.token_hex(4)}"
    job.run.write(marker, b"")
    try:
        answers = [
            _look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(job.run.uri, marker, [job.train_source, job.val_source], files)
            for node in nodes
        ]
        for node, answer in zip(nodes, answers, strict=True):
            try:
                problem = ray.get(answer, timeout=_ANSWER_SECONDS)
            except ray.exceptions.RayError:
                problem = "does not answer; wait until Ray has given it up, or mend it"
            if problem:
                raise UserError(f"host {node['NodeManagerHostname']}: {problem}")
    finally:
        job.run.filesystem.delete_file(job.run.file(marker))


def check_store(uri: str | None) -> None:
    """Ask every living host for MLflow's file, where the address names one: trials and cells on any of them
    write to it, and each would make a file of its own that nobody looks at.

    Raises UserError naming the first that does not see it.
    """
    path = (uri or "").removeprefix("sqlite:///")
    if path in ("", uri):
        return
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    marker = Path(path).parent / f".seen-{secrets.token_hex(4)}"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    try:
        answers = [
            _sees.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(marker))
            for node in nodes
        ]
        for node, answer in zip(nodes, answers, strict=True):
            if not ray.get(answer, timeout=_ANSWER_SECONDS):
                raise UserError(
                    f"host {node['NodeManagerHostname']}: does not see run.tracking ({uri}), to which all "
                    f"hosts write; name an MLflow server (docs/mlflow.md), or run.tracking=off"
                )
    except ray.exceptions.RayError:
        pass  # a host that has just been lost: what runs there will say so
    finally:
        marker.unlink()


@ray.remote(num_cpus=0)
def _sees(path: str) -> bool:
    return Path(path).exists()


@ray.remote(num_cpus=0)
def _look(uri: str, marker: str, sources: list[Source], files: list[str]) -> str | None:
    """What this host lacks, in a line, or None."""
    try:
        seen = RunFolder(uri).read(marker) is not None
    except (OSError, MimrayError):
        seen = False
    if not seen:
        return f"does not see run.storage ({uri}); name a place that all hosts share, like s3://..."
    for file in files:
        if not Path(file).exists():
            return f"does not have {file}; put it on a path that all hosts share"
    for source in sources:
        try:
            source.read(np.zeros(1, dtype=np.int64))
        except MimrayError as error:
            return f"cannot read the data ({error}); put it where all hosts see it"
    return None
