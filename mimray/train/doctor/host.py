"""What a host says of itself; neither Ray nor a GPU is needed for it."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mimray import __version__
from mimray.train.host_memory import free_memory

_PACKAGES = ("ray", "torch", "torchvision", "timm", "numpy", "pyarrow")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Room:
    """Bytes of the filesystem that `place` is on."""

    place: str
    free: int
    total: int


@dataclass(frozen=True)
class Seen:
    """What a process of the host sees.

    `versions` by package, of mimray with a digest of its code. `memory`: free bytes. `runs`: where a
    local `run.storage` lies, else None. `gpus`: bytes of each that NVIDIA's driver knows, None where there
    is no `nvidia-smi`; `torch_gpus`: how many torch can use, None where there should be none.
    """

    versions: dict[str, str]
    token: bool
    memory: int
    temporary: Room
    runs: Room | None
    shared_memory: Room | None
    gpus: list[int] | None = None
    torch_gpus: int | None = None


@dataclass(frozen=True)
class Host:
    """A host of the cluster: as Ray counts it (`cpus`, `gpus`, bytes of the `object_store`), as it sees
    itself, and how far its clock is `ahead` of the driver's, give or take `within` seconds."""

    name: str
    cpus: float
    gpus: float
    object_store: int
    seen: Seen
    ahead: float = 0.0
    within: float = 0.0


def versions() -> dict[str, str]:
    """Of what a run computes with, in this process."""
    found = {"python": platform.python_version(), "mimray": f"{__version__} ({code_digest()})"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def code_digest() -> str:
    """Of mimray's own Python files as they lie here: of one version there are many while it is edited."""
    folder = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:8]


def look_around(runs: str | None, token: bool, ray_gpus: float) -> Seen:
    """Ask this host. `runs`: a local folder that a run would write to; `token`: whether Ray asks for one
    here; `ray_gpus`: how many it gives out."""
    gpus = gpus_of_driver()
    return Seen(
        versions=versions(),
        token=token,
        memory=free_memory(),
        temporary=room(tempfile.gettempdir()),
        runs=None if runs is None else room(runs),
        shared_memory=room(str(_SHARED_MEMORY)) if _SHARED_MEMORY.is_dir() else None,
        gpus=gpus,
        torch_gpus=gpus_of_torch() if gpus or ray_gpus else None,
    )


def room(path: str) -> Room:
    """Of the nearest folder above that is there."""
    place = next(p for p in (Path(path), *Path(path).parents) if p.exists())
    usage = shutil.disk_usage(place)
    return Room(str(place), usage.free, usage.total)


def gpus_of_driver() -> list[int] | None:
    """Bytes of each GPU that NVIDIA's driver has; None where nobody can be asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603
            asked, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer has none to give
    return [int(line) * 2**20 for line in answer.stdout.split("\n") if line.strip().isdigit()]


def gpus_of_torch() -> int:
    """How many this process could use."""
    import torch

    return torch.cuda.device_count()
