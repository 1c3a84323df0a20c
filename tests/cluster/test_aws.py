"""cluster/aws.yaml by Ray's own launcher, against a stand-in for AWS that knows its instance types."""

import time

import pytest
from ray.autoscaler._private.providers import _get_node_provider, _get_node_provider_cls
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND

from tests.cluster.clusters import read

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")
pytestmark = pytest.mark.slow  # the stand-in reads all of Amazon's policies: half a minute
PROFILE = "mimray-worker"


@pytest.fixture
def config(tmp_path, monkeypatch) -> dict:
    """The file with its places filled in, as the launcher fills in the rest."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where it leaves the key that it makes
    (tmp_path / ".ssh").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setattr(time, "sleep", lambda _: None)  # until a new role is known everywhere
    config = read("cluster/aws.yaml")
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
        image = ec2.describe_images()["Images"][0]["ImageId"]
        for kind in config["available_node_types"].values():
            kind["node_config"]["ImageId"] = image
        boto3.client("iam").create_instance_profile(InstanceProfileName=PROFILE)
        prepared = prepare_config(config)
        validate_config(prepared)
        yield _get_node_provider_cls(prepared["provider"]).bootstrap_config(prepared)


def test_amazon_starts_each_kind_of_host_and_lets_in_nothing_but_ssh(config):
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    provider = _get_node_provider(config["provider"], config["cluster_name"])
    kinds = config["available_node_types"]
    for kind in kinds.values():
        provider.create_node(kind["node_config"], {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}, 1)
    hosts = {
        host["InstanceType"]: host
        for reservation in ec2.describe_instances()["Reservations"]
        for host in reservation["Instances"]
    }
    head, gpu, cpu = (hosts[kinds[kind]["node_config"]["InstanceType"]] for kind in kinds)
    assert [host.get("InstanceLifecycle") for host in (head, gpu, cpu)] == [None, "spot", "spot"]
    assert all(PROFILE in host["IamInstanceProfile"]["Arn"] for host in (gpu, cpu))

    (group,) = {g["GroupId"] for host in hosts.values() for g in host["SecurityGroups"]}
    (rules,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    from_anywhere = [rule["FromPort"] for rule in rules["IpPermissions"] if rule["IpRanges"]]
    assert from_anywhere == [22]

    about = ec2.describe_instance_types(InstanceTypes=list(hosts))["InstanceTypes"]
    gpus = {one["InstanceType"]: one.get("GpuInfo") for one in about}
    assert gpus[gpu["InstanceType"]]["Gpus"][0]["Count"] == 4
    assert gpus[head["InstanceType"]] is gpus[cpu["InstanceType"]] is None
