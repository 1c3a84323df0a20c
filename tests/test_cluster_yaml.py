"""cluster.yaml as `ray up` reads it, before it has spoken to a host."""

from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[1]


def read() -> dict:
    return yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())


def test_ray_takes_it():
    config = prepare_config(read())
    validate_config(config)
    assert config["available_node_types"]["local.cluster.node"]["min_workers"] == 1


def test_ray_would_refuse_a_wrong_key():
    with pytest.raises(Exception, match="head_ipp"):
        validate_config(prepare_config(read() | {"head_ipp": "10.0.0.1"}))


def test_what_goes_to_the_hosts_is_small_and_there():
    """`ray up` reads all of it, and so does the head at every start."""
    mounts = {far: near for far, near in read()["file_mounts"].items() if near[0] != "~"}
    files = [
        f for near in mounts.values() for f in [REPOSITORY / near, *(REPOSITORY / near).rglob("*")]
    ]
    assert all(
        far == f"~/mimray/{near}" and (REPOSITORY / near).exists() for far, near in mounts.items()
    )
    assert sum(file.stat().st_size for file in files) < 8_000_000


@pytest.mark.parametrize("needed", ["Makefile", "pyproject.toml", "requirements.lock", "mimray"])
def test_make_setup_finds_its_files_on_a_host(needed):
    assert f"~/mimray/{needed}" in read()["file_mounts"]


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_every_ray_asks_for_the_token(kind):
    start = read()[f"{kind}_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token" in start.partition("ray start")[0]
