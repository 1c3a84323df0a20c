"""cluster/kuberay/: what the API server would take, and what a pod of ours must have."""

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from mimray.cli import build_parser
from tests.cluster.clusters import REPOSITORY, read
from tests.cluster.typed import faults, types

pytestmark = pytest.mark.unit
KINDS = {"raycluster": "RayCluster", "rayjob": "RayJob", "storage": "V1PersistentVolumeClaim"}
KNOWN = types()
FREE = ("rayStartParams", "requests", "limits")  # their names are the user's


def manifest(name: str) -> dict[str, Any]:
    return read(f"cluster/kuberay/{name}.yaml")


def templates() -> dict[str, dict[str, Any]]:
    """The pods' templates by group."""
    spec = manifest("raycluster")["spec"]
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {
        name: g["template"]["spec"] for name, g in {"head": spec["headGroupSpec"], **groups}.items()
    }


PODS = templates()


def objects(value: Any, name: str = "") -> Iterator[dict[str, Any]]:
    """All objects in a manifest whose fields the schema names."""
    if isinstance(value, list):
        for each in value:
            yield from objects(each)
    elif isinstance(value, dict) and name not in FREE:
        yield value
        for field, inner in value.items():
            yield from objects(inner, field)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_api_server_would_take_it(name, kind):
    assert list(faults(manifest(name), kind, KNOWN)) == []


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (
            lambda spec: spec.update(rayVersions="2.60.0"),
            "rayVersions: RayCluster.spec has no such",
        ),
        (lambda spec: spec.pop("headGroupSpec"), "headGroupSpec: RayCluster.spec must have it"),
        (lambda spec: spec["authOptions"].update(mode="tokens"), "'tokens' is none of"),
        (lambda spec: spec["headGroupSpec"]["rayStartParams"].update(x=1), "x: 1 is no str"),
        (lambda spec: spec["workerGroupSpecs"][0].update(replicas="1"), "replicas: '1' is no int"),
    ],
)
def test_it_would_refuse_a_slip(edit, why):
    slipped = manifest("raycluster")
    edit(slipped["spec"])
    assert any(why in fault for fault in faults(slipped, "RayCluster", KNOWN))


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_it_would_refuse_any_field_that_is_misspelt(name, kind):
    whole = manifest(name)
    for fields in list(objects(whole)):
        for field in list(fields):
            fields[f"{field}s"] = fields.pop(field)
            found = list(faults(whole, kind, KNOWN))
            assert any(
                f".{field}s: " in fault and "has no such field" in fault for fault in found
            ), field
            fields[field] = fields.pop(f"{field}s")


def test_a_job_has_the_same_cluster_word_by_word():
    texts = [(REPOSITORY / f"cluster/kuberay/{name}.yaml").read_text() for name in KINDS][:2]
    cluster, job = texts[0].partition("\nspec:\n")[2], texts[1].partition("  rayClusterSpec:\n")[2]
    assert "".join(f"  {line}" for line in cluster.splitlines(True)) == job


def test_ray_is_the_one_of_the_lock():
    assert manifest("raycluster")["spec"]["rayVersion"] == version("ray")


def test_the_token_comes_from_a_secret_and_stands_in_no_file():
    auth = manifest("raycluster")["spec"]["authOptions"]
    assert auth == {"mode": "token", "secretName": "mimray-token"}
    for file in (REPOSITORY / "cluster/kuberay").glob("*.yaml"):
        assert "kind: Secret" not in file.read_text()
        assert not re.search(r"auth_token:|AUTH_TOKEN", file.read_text())


def test_the_head_does_no_work_and_is_not_on_spot_hosts():
    assert manifest("raycluster")["spec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert "tolerations" not in PODS["head"]


@pytest.mark.parametrize("group", ["gpu", "cpu"])
def test_workers_may_be_on_spot_hosts(group):
    keys = {one["key"] for one in PODS[group]["tolerations"]}
    assert {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"} <= keys


@pytest.mark.parametrize("group", PODS)
class TestPod:
    def test_leaves_time_for_a_checkpoint(self, group):
        (container,) = PODS[group]["containers"]
        *_, script, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        assert (REPOSITORY / script.removeprefix("/mimray/")).is_file()
        assert PODS[group]["terminationGracePeriodSeconds"] >= float(seconds) + 30

    def test_a_job_that_is_stopped_has_time_for_its_checkpoint(self, group):
        """Ray's supervisor of a job, on whichever host, reads it in its own environment."""
        (container,) = PODS[group]["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        *_, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        assert 30 <= float(variables["RAY_JOB_STOP_WAIT_TIME_S"]) < float(seconds)

    def test_has_shared_memory_for_ray_and_the_shared_storage(self, group):
        volumes = {volume["name"]: volume for volume in PODS[group]["volumes"]}
        (container,) = PODS[group]["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        claim = manifest("storage")["metadata"]["name"]
        assert mounts["/shared"]["persistentVolumeClaim"] == {"claimName": claim}

    def test_shared_memory_is_as_large_as_rays_store(self, group):
        """Ray takes 30 % of the memory that it may use."""
        volume = PODS[group]["volumes"][0]["emptyDir"]["sizeLimit"]
        limit = PODS[group]["containers"][0]["resources"]["limits"]["memory"]
        ratio = int(volume.removesuffix("Gi")) / int(limit.removesuffix("Gi"))
        assert 0.25 <= ratio <= 0.35

    def test_has_no_rights_that_it_does_not_need(self, group):
        (container,) = PODS[group]["containers"]
        assert PODS[group]["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_job_says_what_the_command_line_takes():
    python, file, *words = shlex.split(manifest("rayjob")["spec"]["entrypoint"])
    assert python == "python" and (REPOSITORY / file.removeprefix("/mimray/")).is_file()
    parsed = build_parser().parse_args(["pretrain", *words])
    assert "run.name=first" in parsed.overrides, "a retry goes on with the run of this name"
