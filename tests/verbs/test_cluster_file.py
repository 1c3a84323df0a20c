"""Mistakes in a cluster's file, and hosts that do not answer: said before Ray is asked."""

import subprocess
from pathlib import Path

import pytest
from ray.autoscaler._private.providers import _NODE_PROVIDERS

from mimray.cli import main
from mimray.verbs.cluster import commands, file
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.schema import KINDS
from tests.cluster.clusters import RAY_UP
from tests.verbs.stand_in import FILE, HEAD, REPOSITORY, WORKER

pytestmark = pytest.mark.unit
EXAMPLES = file._EXAMPLES  # before the stand-in's hosts are those of cluster.yaml


def edited(folder, old, new, name="cluster.yaml"):
    text = (REPOSITORY / name).read_text()
    assert old in text
    (folder / "edited.yaml").write_text(text.replace(old, new))
    return str(folder / "edited.yaml")


def says(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


MISTAKES = [
    (
        "head_ip:",
        "head_pi:",
        "provider has no head_ip, but head_pi, which Ray does not know; write",
    ),
    ("head_ip: 192.0.2.1 ", "x: 1 ", "provider has no head_ip; write `head_ip: 10.1.2.3`"),
    ("head_ip: 192.0.2.1 ", "head_ip: 10 ", "provider.head_ip=10: write text"),
    ("worker_ips:", "worker_ip:", "provider has no worker_ips, but worker_ip, which Ray"),
    ("[192.0.2.2]", "10.0.0.2", "provider.worker_ips='10.0.0.2': write a list, like [a, b]"),
    ("[192.0.2.2]", "[2]", "provider.worker_ips: 2 is no address; write"),
    ("[192.0.2.2]", "[192.0.2.2, 192.0.2.2]", "provider.worker_ips: 192.0.2.2 is there already"),
    ("[192.0.2.2]", "[192.0.2.1]", "provider.worker_ips: 192.0.2.1 is there already; name each"),
    ("[__pycache__]", "[]\n2026-01-01: x", "is no cluster's file: keys must be"),
    ("[__pycache__]", "&a [*a]", "is no cluster's file: Circular"),
    ("  ssh_user:", "  user:", "auth.user: no such setting; did you mean ssh_user?"),
    ("  ssh_user: mimray", "", "auth.ssh_user: is missing; name the user"),
    ("type: local", "type: locl", "provider.type=locl: no such provider; did you mean local?"),
    ("type: local", "typ: local", "provider.type=None: no such provider; known: local, aws"),
    ("file_mounts:", "file_mount:", "file_mount: no such setting; did you mean file_mounts?"),
    ("cluster_name: mimray", "cluster_name: 7", "cluster_name=7: write text"),
    ("cluster_name: mimray", "cluster_name: a\nmin_workers: x", "min_workers='x': write a whole"),
    ("[__pycache__]", "[]\n7: 8", "7: no such setting; known: "),
    ("  - chmod 700 ~/.ray; chmod 600", "  - 7 #", "setup_commands.0=7: write text"),
]


@pytest.mark.parametrize("action", ["up", "down", "status", "submit"])
def test_a_misspelt_head(ray, capsys, action):
    path = edited(ray.folder, "head_ip:", "head_pi:")
    words = ["--", "pretrain", "demo"] if action == "submit" else []
    assert main(["cluster", action, path, *words]) == 2
    assert says(capsys).startswith(f"mimray: {path}: provider has no head_ip, but head_pi, ")
    assert not (ray.folder / "calls").exists()


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_in_the_file_is_named(ray, capsys, old, new, expected):
    path = edited(ray.folder, old, new)
    assert main(["cluster", "status", path]) == 2
    assert says(capsys).startswith(f"mimray: {path}: {expected}")
    assert not (ray.folder / "calls").exists()


def test_a_mistake_in_a_clouds_file_is_named(ray, capsys):
    path = edited(ray.folder, "max_workers: 4", "max_workers: four", "cluster/aws.yaml")
    assert main(["cluster", "status", path]) == 2
    expected = "available_node_types.gpu.max_workers='four': write a whole number"
    assert says(capsys) == f"mimray: {path}: {expected}"
    path = edited(ray.folder, "    resources: {CPU: 0}\n", "", "cluster/aws.yaml")
    assert main(["cluster", "status", path]) == 2
    expected = "available_node_types.head.resources: is missing"
    assert says(capsys) == f"mimray: {path}: {expected}"


def test_a_secret_in_the_wrong_place_is_not_shown(ray, capsys):
    new = "provider:\n  gcp_credentials: s3cret"
    path = edited(ray.folder, "provider:", new, "cluster/gcp.yaml")
    assert main(["cluster", "status", path]) == 2
    assert says(capsys) == f"mimray: {path}: provider.gcp_credentials: write settings by name"


def test_what_ray_takes_beside_its_schema(ray):
    def least(*lines):
        path = edited(ray.folder, "cluster_name: mimray", "\n".join(lines))
        return file.ClusterFile.read(path).least

    assert least("min_workers: 1") == 2
    assert least("min_workers: 5") == 2  # Ray has no more addresses
    assert least("min_workers: 0") == least("max_workers: 0") == 1


@pytest.mark.parametrize("name", RAY_UP)
def test_our_own_files_have_no_mistake(name):
    file.ClusterFile.read(str(REPOSITORY / name))


def test_providers_are_rays():
    assert set(KINDS) == set(_NODE_PROVIDERS)


# ----- what `up` looks at before it starts anything -----------------------------------------------


@pytest.mark.parametrize("action", ["up", "down", "status"])
def test_addresses_that_are_examples(ray, capsys, monkeypatch, action):
    monkeypatch.setattr(file, "_EXAMPLES", EXAMPLES)
    assert main(["cluster", action, FILE]) == 2
    expected = f"provider.head_ip: {HEAD} is an example; edit the three places marked EDIT"
    assert says(capsys) == f"mimray: {FILE}: {expected}"
    path = edited(ray.folder, HEAD, "10.0.0.1")
    assert main(["cluster", action, path]) == 2
    assert f"provider.worker_ips: {WORKER} is an example" in says(capsys)


def test_hosts_that_do_not_answer_are_named(ray, capsys):
    (ray.folder / ".ray/auth_token").unlink()
    ray.lets_in(HEAD)
    assert main(["cluster", "up", FILE]) == 3
    by_hand = f"`ssh -i ~/.ssh/mimray mimray@{WORKER} true`"
    last = says(capsys)
    assert last.startswith(f"mimray: {FILE}: no ssh to {WORKER} (exit status 255); ")
    assert last.endswith(by_hand)
    ray.lets_in()
    assert main(["cluster", "up", FILE]) == 3
    assert f"no ssh to {HEAD}, {WORKER} (exit status 255); " in says(capsys)
    assert not (ray.folder / "calls").exists(), "no token, and no `ray up`"
    asked = (ray.folder / "ssh").read_text().splitlines()
    assert all("BatchMode=yes" in line and "ConnectTimeout=5" in line for line in asked)
    assert all(f"-i {ray.folder}/.ssh/mimray " in line for line in asked)


def test_a_worker_that_only_the_head_reaches_counts(ray):
    ssh = ray.folder / "bin/ssh"
    ssh.write_text(
        f'#!/bin/sh\ncase "$*" in *-W*@{HEAD}*@{WORKER}\\ true|*@{HEAD}\\ true) exit 0;; esac\nexit 255\n'
    )
    assert main(["cluster", "up", FILE]) == 0


def test_the_files_proxy_and_the_heads_outer_address(ray, capsys):
    text = Path(FILE).read_text().replace("ssh_user:", "ssh_proxy_command: nc %h %p\n  ssh_user:")
    text = text.replace("head_ip:", "external_head_ip: outer\n  head_ip:")
    (ray.folder / "proxied.yaml").write_text(text)
    assert main(["cluster", "up", str(ray.folder / "proxied.yaml")]) == 3
    last = says(capsys)
    assert f"no ssh to {HEAD} (" in last
    assert last.endswith("-o 'ProxyCommand=nc %h %p' mimray@outer true`")
    assert (ray.folder / "ssh").read_text().count("ProxyCommand=nc %h %p mimray@") == 2


def test_up_without_ssh(ray, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(ray.folder))
    assert main(["cluster", "up", FILE]) == 2
    assert "no `ssh` here; install it" in says(capsys)


def test_up_makes_no_token_for_a_cluster_that_it_does_not_start(ray, capsys):
    (ray.folder / ".ray/auth_token").unlink()
    (ray.folder / ".ssh/mimray").unlink()
    assert main(["cluster", "up", FILE]) == 2
    assert "make a key for this cluster alone" in says(capsys)
    assert not (ray.folder / "calls").exists()


def test_ssh_takes_the_options(ray):
    """The real one, where there is one: it reads them before it looks for the host."""
    from mimray.verbs.cluster.ssh import words

    real = Path("/usr/bin/ssh")
    if not real.exists():
        pytest.skip("needs ssh")
    _, *rest = words(file.ClusterFile.read(FILE), HEAD, "true", "nc %h %p")
    done = subprocess.run([str(real), "-G", *rest], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    known = done.stdout.splitlines()
    assert {"user mimray", "batchmode yes", "connecttimeout 5"} <= set(known)
    assert "proxycommand nc %h %p" in known


@pytest.mark.parametrize(
    ("name", "local", "least"),
    [("cluster.yaml", True, 2), ("cluster/aws.yaml", False, 2), ("cluster/gcp.yaml", False, 2)],
)
def test_what_a_file_says(name, local, least):
    file = ClusterFile.read(str(REPOSITORY / name))
    assert (file.local, file.least) == (local, least)
    assert ("RAY_UP_enable_autoscaler_v2" in commands.settings(file)) == local
    assert (file.addresses == [HEAD, WORKER]) == local


def test_files_that_are_none(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("mask: {ratio: 0.5}")
    for name, says in [("recipe.yaml", "names no provider"), ("none.yaml", "No such file")]:
        assert main(["cluster", "status", str(tmp_path / name)]) == 2
        assert says in capsys.readouterr().err
