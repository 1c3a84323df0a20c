"""The locked versions are those that known advisories do not concern, each by its name."""

from pathlib import Path

import pytest
from packaging.version import Version

pytestmark = pytest.mark.unit
LOCK = Path(__file__).parents[1] / "requirements.lock"
FLOORS = {
    # the job server: DNS rebinding; deleting without a token
    "CVE-2025-62593": ("ray", "2.52.0"),
    "CVE-2026-27482": ("ray", "2.54.0"),
    # torch.load with weights_only=True runs code, or writes outside of its memory
    "CVE-2025-32434": ("torch", "2.6.0"),
    "CVE-2026-24747": ("torch", "2.10.0"),
    # the tracking server: DNS rebinding, weak passwords, paths out of their folder, ways around basic auth
    "CVE-2025-14279": ("mlflow", "3.11.0"),
    "CVE-2025-11200": ("mlflow", "3.11.0"),
    "CVE-2025-11201": ("mlflow", "3.11.0"),
    "CVE-2026-2614": ("mlflow", "3.10.0"),
    "CVE-2026-2652": ("mlflow", "3.10.0"),
    "CVE-2026-0545": ("mlflow", "3.11.0"),
    # pictures that unpack without end or reach outside of their memory
    "CVE-2026-40192": ("pillow", "12.2.0"),
    "CVE-2026-42311": ("pillow", "12.3.0"),
    "CVE-2026-55380": ("pillow", "12.3.0"),
    "CVE-2026-55798": ("pillow", "12.3.0"),
    "CVE-2026-59197": ("pillow", "12.3.0"),
    "CVE-2026-59198": ("pillow", "12.3.0"),
    "CVE-2026-59199": ("pillow", "12.3.0"),
    "CVE-2026-59200": ("pillow", "12.3.0"),
}
"""Advisory -> package, and a version that it does not concern."""
SOURCE = LOCK.parent / "mimray"


def locked() -> dict[str, Version]:
    pins = [line.split(";")[0].strip() for line in LOCK.read_text().splitlines()]
    pairs = [pin.split("==") for pin in pins if "==" in pin]
    return {name.partition("[")[0].strip().lower(): Version(version) for name, version in pairs}


@pytest.mark.parametrize("advisory", FLOORS)
def test_the_lock_is_not_concerned(advisory):
    package, floor = FLOORS[advisory]
    version = locked()[package]
    assert version >= Version(floor), f"{advisory} concerns {package} {version}"
    assert not version.is_prerelease


def test_ray_asks_for_a_token_and_stays_on_loopback():
    """CVE-2023-48022 (ShadowRay): for its makers an open job server is no fault of Ray."""
    from tests.cluster.clusters import RAY_UP, read

    for name in RAY_UP:
        start = read(name)["head_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start.partition("ray start")[0]
        assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("unsafe", ["extractall(", "weights_only=False", "yaml.load("])
def test_what_runs_or_writes_as_a_file_says_is_not_used(unsafe):
    """CVE-2025-4517, -4138, -4330: tarfile's filters can be got around, so members are read in memory."""
    assert [f.name for f in SOURCE.rglob("*.py") if unsafe in f.read_text()] == []


def test_every_package_is_pinned():
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if "==" not in line] == []
