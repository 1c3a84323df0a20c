"""The same software everywhere, clocks that agree, and a Ray that asks for a token."""

from __future__ import annotations

from collections import Counter

from mimray.environment import is_loopback
from mimray.train.doctor.finding import Finding, several
from mimray.train.doctor.host import Host

SKEW_SECONDS = 2.0
_STORE_SECONDS = 900.0  # S3 refuses requests that are signed with a time further off


def judge_versions(hosts: list[Host], driver: dict[str, str]) -> list[Finding]:
    """Every host against the driver, whose objects they unpickle; a line a package that differs."""
    findings = []
    for package, wanted in driver.items():
        found = {host.name: host.seen.versions.get(package, "none") for host in hosts}
        for other, _ in Counter(v for v in found.values() if v != wanted).most_common():
            names = several([name for name, has in found.items() if has == other])
            mend = (
                "submit the run as a job, which brings its code along"
                if package == "mimray"
                else "install requirements.lock there (`make setup`) and start Ray again"
            )
            text = f"{names}: {package} {other}, and the driver has {wanted}; {mend}"
            findings.append(Finding("versions", text, "mend"))
    same = f"the same on {len(hosts)} host(s)"
    return findings or [Finding("versions", same)]


def judge_token(hosts: list[Host], dashboard: str | None) -> list[Finding]:
    """Does Ray ask for a token, and who reaches it? `dashboard`: host:port of its job server."""
    open_to_all = [host.name for host in hosts if not host.seen.token]
    address = (dashboard or "").rpartition(":")[0].strip("[]")
    far = bool(address) and not is_loopback(address)
    listens = f", and its job server listens on {address}" if far else ""
    if open_to_all:
        text = (
            f"Ray asks for none on {several(open_to_all)}{listens}: whoever reaches it runs what he likes; "
            f"set RAY_AUTH_MODE=token where Ray is started (docs/cluster.md)"
        )
        return [Finding("token", text, "look")]
    if far:
        text = f"asked for{listens}, where it is not encrypted; start Ray with --dashboard-host=127.0.0.1"
        return [Finding("token", text, "look")]
    return [Finding("token", f"asked for on {len(hosts)} host(s)")]


def judge_clocks(hosts: list[Host], storage: str | None) -> list[Finding]:
    """Times in logs and in MLflow come from every host; a store refuses those that are far off."""
    findings = []
    for host in hosts:
        off = abs(host.ahead) - host.within  # at least that far
        if off > SKEW_SECONDS:
            way = "ahead of" if host.ahead > 0 else "behind"
            refused = off > _STORE_SECONDS and (storage or "").startswith("s3://")
            text = (
                f"{host.name} is {abs(host.ahead):.1f} s {way} the driver's host; keep time there "
                f"(chrony, or timedatectl set-ntp true)"
            )
            findings.append(Finding("clocks", text, "mend" if refused else "look"))
    most = max((abs(host.ahead) for host in hosts), default=0.0)
    return findings or [Finding("clocks", f"at most {most:.2f} s apart")]
