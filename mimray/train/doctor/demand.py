"""What a run will ask of the cluster, against what was measured there.

Predictions, so none of them is refused but memory: a trainer that does not fit dies at its first step.
"""

from __future__ import annotations

from dataclasses import dataclass

from mimray.train.doctor.finding import GIB, Finding
from mimray.train.doctor.host import Host

_TRAINER_BYTES = int(0.5 * GIB)  # torch and ray, once imported


@dataclass(frozen=True)
class Demand:
    """A run at its predicted speed: `images_per_s` of all `trainers`, `batch` pictures a step. Bytes:
    `memory` of one trainer, the `gradients` that trainers exchange at every step, one `checkpoint`."""

    trainers: int
    use_gpu: bool
    micro_batch: int
    memory: int
    gradients: int
    checkpoint: int
    images_per_s: float
    batch: int
    checkpoint_every: int

    @property
    def step_seconds(self) -> float:
        """Of computing alone."""
        return self.batch / self.images_per_s


@dataclass(frozen=True)
class Link:
    """Bytes a second from one host's object store to another's."""

    source: str
    target: str
    speed: float


@dataclass(frozen=True)
class Storage:
    """Bytes a second between a host and `run.storage` (`write`, `read`) and the pictures (`pictures`)."""

    host: str
    write: float
    read: float
    pictures: float | None


@dataclass(frozen=True)
class Decoding:
    """Pictures a second that one CPU decodes and cuts, and the `size` of one as it is stored, bytes."""

    images_per_s: float
    size: float


def judge_memory(hosts: list[Host], demand: Demand) -> list[Finding]:
    """Of a GPU, or of the hosts that trainers share."""
    need = demand.memory if demand.use_gpu else demand.memory + _TRAINER_BYTES
    if demand.use_gpu:
        have = min((size for host in hosts for size in host.seen.gpus or ()), default=None)
        where = "the smallest GPU"
    else:
        most = -(-demand.trainers // len(hosts))  # on one host, where they are spread
        need, have = most * need, max(host.seen.memory for host in hosts)
        where = "the host with the most"
    if have is None:
        return []
    text = (
        f"{demand.trainers} trainer(s) at micro-batch {demand.micro_batch} need {need / GIB:.1f} GiB "
        f"{'each' if demand.use_gpu else 'a host'}, predicted, and {where} has {have / GIB:.1f}"
    )
    if need <= have:
        return [Finding("needs", text)]
    mend = f"lower speed.micro_batch={demand.micro_batch} or set speed.checkpoint_stages=[1]"
    return [Finding("needs", f"{text}; {mend}", "mend")]


def judge_decoding(cpus: float, decoding: Decoding, demand: Demand) -> list[Finding]:
    """Do `cpus`, all that trainers leave, decode as quickly as trainers take?"""
    gives, takes = cpus * decoding.images_per_s, demand.images_per_s
    text = (
        f"{cpus:g} CPU(s) beside the trainers decode about {gives:,.0f} pictures/s, and these take "
        f"{takes:,.0f}, predicted"
    )
    if gives >= takes:
        return [Finding("decoding", text)]
    mend = "add hosts of CPUs, or store smaller pictures (`mimray data prepare`)"
    return [Finding("decoding", f"{text}: they will wait; {mend}", "look")]


def judge_network(links: list[Link], demand: Demand | None) -> list[Finding]:
    """The slowest link carries every gradient twice, to be summed and to be told (ring all-reduce)."""
    if not links:
        return []
    slow = min(links, key=lambda link: link.speed)
    text = f"{_mb(slow.speed)} MB/s from {slow.source} to {slow.target}, the slowest"
    if demand is None or demand.trainers < 2:
        return [Finding("network", text)]
    seconds = 2 * demand.gradients / slow.speed
    text += (
        f": {seconds:.2f} s a step for gradients, beside {demand.step_seconds:.2f} s of computing"
    )
    if seconds <= demand.step_seconds:
        return [Finding("network", text)]
    mend = "set speed.placement=pack, raise optim.batch, or mend the network"
    return [Finding("network", f"{text}; {mend}", "look")]


def judge_storage(
    measured: list[Storage], decoding: Decoding | None, demand: Demand | None
) -> list[Finding]:
    """`run.storage` against the checkpoints, and the pictures' place against what is trained on."""
    if not measured:
        return []
    slow = min(measured, key=lambda storage: storage.write)
    text = (
        f"run.storage: {slow.host} writes {_mb(slow.write)} and reads {_mb(slow.read)} MB/s, "
        f"the slowest"
    )
    pictures = _judge_pictures(measured, decoding, demand)
    if demand is None:
        return [Finding("storage", text), *pictures]
    takes, between = demand.checkpoint / slow.write, demand.checkpoint_every * demand.step_seconds
    text += f": {takes:.1f} s a checkpoint, one every {between:.0f} s"
    if takes <= between:
        return [Finding("storage", text), *pictures]
    mend = "raise run.checkpoint_every, or set a quicker run.storage"
    return [Finding("storage", f"{text}; {mend}", "look"), *pictures]


def _judge_pictures(
    measured: list[Storage], decoding: Decoding | None, demand: Demand | None
) -> list[Finding]:
    speeds = [storage.pictures for storage in measured if storage.pictures is not None]
    if not speeds:
        return []
    gives = sum(speeds)
    text = f"data: the hosts read {_mb(gives)} MB/s together"
    if decoding is None or demand is None:
        return [Finding("storage", text)]
    takes = demand.images_per_s * decoding.size
    text += f", and trainers take {_mb(takes)}, predicted"
    if gives >= takes:
        return [Finding("storage", text)]
    mend = "bring the pictures nearer, or store smaller ones (`mimray data prepare`)"
    return [Finding("storage", f"{text}; {mend}", "look")]


def _mb(size: float) -> str:
    """Megabytes, of the little ones with a digit more."""
    return f"{size / 1e6:,.0f}" if size >= 1e7 else f"{size / 1e6:.1f}"
