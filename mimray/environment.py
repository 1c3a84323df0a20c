"""What mimray sets in the process's environment, and where its files lie by default."""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from pathlib import Path

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Nothing phones home, and a dead tracking server is noticed in seconds; these must be set before
ray, mlflow and albumentations are imported. What the user has set himself is left alone."""


def prepare() -> None:
    """Set `QUIET`, and how a private Ray keeps to itself; before ray and mlflow are imported.

    Without RAY_ADDRESS a run starts its own Ray, which shall obey nobody else: it stays on loopback,
    which Ray leaves only to systems without clusters (hence the variable's name), and asks for a
    token that only this process and its children have. Ray reads both when it is imported, so where
    it already was, they stay what they were.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS") and "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ["RAY_AUTH_MODE"] = "disabled" if "ray" in sys.modules else "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def compile_cache() -> Path:
    """Where compiled blocks lie, on each host its own: later runs take them from there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mimray" / "compiled"


def project_folder() -> Path:
    """Where runs and the tracking database lie by default: MIMRAY_HOME, or the current folder.

    A job of `ray job submit` runs in a copy that Ray deletes, so there it is `~/mimray`.
    """
    if home := os.environ.get("MIMRAY_HOME"):
        return Path(home).expanduser().absolute()
    return Path.home() / "mimray" if _in_job() else Path.cwd()


def start_folder() -> Path:
    """What a relative `run.storage` is relative to: the current folder, unless Ray will delete it."""
    return project_folder() if _in_job() else Path.cwd()


def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, is reached from its own machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _in_job() -> bool:
    return "runtime_resources" in Path.cwd().parts
