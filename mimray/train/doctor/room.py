"""Disks, shared memory and GPUs: is there what Ray counts with, and what a run writes to?"""

from __future__ import annotations

from mimray.recipe import Speed
from mimray.train.doctor.finding import GIB, Finding
from mimray.train.doctor.host import Host, Room

_FULL = 0.95
"""Share of a disk above which Ray puts no object on it (RAY_local_fs_capacity_threshold)."""


def judge_disks(hosts: list[Host], speed: Speed, checkpoints: int | None) -> list[Finding]:
    """Temporary files on every host, and a local folder of runs. `checkpoints`: bytes that the run keeps,
    where they are known."""
    findings = []
    for host in hosts:
        place = host.seen.temporary
        if place.free < (1 - _FULL) * place.total:
            text = (
                f"{host.name}: {place.place} is more than {_FULL:.0%} full ({_size(place)}), and Ray "
                f"spills no object there; make room, or start Ray with --temp-dir"
            )
            findings.append(Finding("disks", text, "look"))
        elif place.free < speed.cache_gib * GIB:
            text = (
                f"{host.name}: {_size(place)} in {place.place}, less than speed.cache_gib="
                f"{speed.cache_gib:g}; lower it, or set MIMRAY_CACHE to a folder with more"
            )
            findings.append(Finding("disks", text, "look"))
        runs = host.seen.runs
        if runs is not None and checkpoints is not None and runs.free < checkpoints:
            text = (
                f"{host.name}: {_size(runs)} in {runs.place}, and the checkpoints take "
                f"{checkpoints / GIB:.1f} GiB; set run.storage"
            )
            findings.append(Finding("disks", text, "mend"))
    least = min(host.seen.temporary.free for host in hosts) / GIB
    return findings or [Finding("disks", f"at least {least:.0f} GiB free for temporary files")]


def judge_shared_memory(hosts: list[Host]) -> list[Finding]:
    """Ray's object store wants to lie in /dev/shm; where it does not fit, it lies on a disk."""
    findings = []
    for host in hosts:
        place = host.seen.shared_memory
        if place is None or place.total < host.object_store:
            has = 0 if place is None else place.total
            text = (
                f"{host.name}: /dev/shm has {has / GIB:.1f} GiB and the object store "
                f"{host.object_store / GIB:.1f}, so it lies on a disk; give a container more (--shm-size), "
                f"or Ray less (--object-store-memory)"
            )
            findings.append(Finding("memory", text, "look"))
    least = min(host.object_store for host in hosts) / GIB
    return findings or [Finding("memory", f"object stores of {least:.1f} GiB or more, in /dev/shm")]


def judge_gpus(hosts: list[Host]) -> list[Finding]:
    """What the driver has, against what Ray gives out and what torch can use."""
    findings = []
    for host in hosts:
        known, usable = host.seen.gpus, host.seen.torch_gpus or 0
        there = usable if known is None else len(known)
        if usable < there:
            text = (
                f"the driver has {there} GPU(s) and torch can use {usable}; is its build one for this "
                f"driver, and CUDA_VISIBLE_DEVICES unset?"
            )
            findings.append(Finding("gpus", f"{host.name}: {text}", "mend"))
        elif host.gpus > there:
            text = (
                f"Ray gives out {host.gpus:g} GPU(s) and there are {there}; start Ray there again"
            )
            findings.append(Finding("gpus", f"{host.name}: {text}", "mend"))
        elif host.gpus < there:
            text = f"Ray gives out {host.gpus:g} of {there} GPU(s); start it without --num-gpus for all"
            findings.append(Finding("gpus", f"{host.name}: {text}", "look"))
    total = sum(host.gpus for host in hosts)
    return findings or [Finding("gpus", f"{total:g}" if total else "none on any host")]


def _size(place: Room) -> str:
    return f"{place.free / GIB:.1f} GiB free"
