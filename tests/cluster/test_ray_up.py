"""cluster.yaml, cluster/aws.yaml, cluster/gcp.yaml as `ray up` reads them, before it speaks to anybody."""

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.clusters import CLOUDS, COMMON, RAY_UP, REPOSITORY, read

pytestmark = pytest.mark.unit
PLACES = {"cluster.yaml": 3, "cluster/aws.yaml": 3, "cluster/gcp.yaml": 3}


@pytest.fixture(params=RAY_UP)
def name(request) -> str:
    return request.param


def test_ray_takes_it(name):
    validate_config(prepare_config(read(name)))


def test_all_hosts_of_a_local_cluster_are_started():
    config = prepare_config(read("cluster.yaml"))
    assert config["available_node_types"]["local.cluster.node"]["min_workers"] == 1


def test_ray_would_refuse_a_wrong_key(name):
    with pytest.raises(Exception, match="head_ipp"):
        validate_config(prepare_config(read(name) | {"head_ipp": "10.0.0.1"}))


def test_the_places_to_edit_are_numbered(name):
    marks = [part.split(":")[0] for part in (REPOSITORY / name).read_text().split("# EDIT ")[1:]]
    assert marks == [str(place + 1) for place in range(PLACES[name])]


def test_a_cluster_has_a_key_of_its_own():
    """Jobs can read it on the head."""
    key = read("cluster.yaml")["auth"]["ssh_private_key"]
    assert key == "~/.ssh/mimray"
    for text in (REPOSITORY / "cluster.yaml", REPOSITORY / "docs/cluster.md"):
        assert f"ssh-keygen -t ed25519 -N '' -f {key}\n" in text.read_text()


@pytest.mark.parametrize("other", CLOUDS)
def test_clouds_differ_in_what_the_cloud_is_only(other):
    ours, theirs = read("cluster.yaml"), read(other)
    assert {key: ours[key] for key in COMMON} == {key: theirs[key] for key in COMMON}
    common = (REPOSITORY / "cluster.yaml").read_text().partition("# ----- the same words")[2]
    assert common and (REPOSITORY / other).read_text().endswith(common)


def test_what_goes_to_the_hosts_is_small_and_there(name):
    """`ray up` reads all of it, and so does the head at every start."""
    mounts = {far: near for far, near in read(name)["file_mounts"].items() if near[0] != "~"}
    files = [
        f for near in mounts.values() for f in [REPOSITORY / near, *(REPOSITORY / near).rglob("*")]
    ]
    assert all(
        far == f"~/mimray/{near}" and (REPOSITORY / near).exists() for far, near in mounts.items()
    )
    assert sum(file.stat().st_size for file in files) < 8_000_000


@pytest.mark.parametrize("needed", ["Makefile", "pyproject.toml", "requirements.lock", "mimray"])
def test_make_setup_finds_its_files_on_a_host(needed):
    assert f"~/mimray/{needed}" in read("cluster.yaml")["file_mounts"]


@pytest.mark.parametrize("cloud", CLOUDS)
class TestCloud:
    def test_the_head_does_no_work(self, cloud):
        config = read(cloud)
        head = config["available_node_types"][config["head_node_type"]]
        assert head["resources"] == {"CPU": 0}
        assert "max_workers" not in head, "no second head"

    def test_workers_are_spot_and_counted(self, cloud):
        config = read(cloud)
        workers = {k: v for k, v in config["available_node_types"].items() if k != "head"}
        assert set(workers) == {"gpu", "cpu"}
        assert workers["gpu"]["min_workers"] >= 1, "a run finds no GPU otherwise, and refuses"
        assert workers["cpu"]["min_workers"] == 0
        most = [worker["max_workers"] for worker in workers.values()]
        assert sum(most) == config["max_workers"]
        for worker in workers.values():
            node = worker["node_config"]
            spot = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
            assert spot or node["scheduling"]["provisioningModel"] == "SPOT"

    def test_a_head_is_ordinary(self, cloud):
        node = read(cloud)["available_node_types"]["head"]["node_config"]
        assert not {"InstanceMarketOptions", "scheduling"} & set(node)


def test_the_autoscaler_on_an_aws_head_finds_its_client():
    lock = (REPOSITORY / "requirements.lock").read_text().splitlines()
    assert any(line.startswith("boto3==") for line in lock)


def test_google_disks_are_in_the_zone_of_their_hosts():
    config = read("cluster/gcp.yaml")
    zone, project = (config["provider"][key] for key in ("availability_zone", "project_id"))
    for kind in config["available_node_types"].values():
        (disk,) = kind["node_config"]["disks"]
        about = disk["initializeParams"]
        assert about["diskType"].startswith(f"zones/{zone}/")
        assert about["sourceImage"].startswith(f"projects/{project}/")
