"""The cluster's files, as a person edits them and as Ray reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
RAY_UP = ("cluster.yaml", "cluster/aws.yaml", "cluster/gcp.yaml")
CLOUDS = RAY_UP[1:]
COMMON = (
    "cluster_name",
    "file_mounts",
    "rsync_exclude",
    "setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""What the three say in the same words."""


def read(name: str) -> dict[str, Any]:
    """A file's YAML."""
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text())
    return config
