"""Nothing listens beyond this machine unless told so, and then it asks for a token."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from mimray.environment import is_loopback
from mimray.errors import UserError
from mimray.verbs.cluster import commands
from mimray.verbs.cluster.file import ClusterFile

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
FILES = ["cluster.yaml", "cluster/aws.yaml", "cluster/gcp.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_our_cluster_files(name):
    """Their words on the head: the token, then the address."""
    file = ClusterFile.read(str(REPOSITORY / name))
    start = file.config["head_start_ray_commands"][-1]
    before, found, after = start.partition("--dashboard-host=")
    assert found and is_loopback(after.split()[0])
    assert "RAY_AUTH_MODE=token" in before.partition("ray start")[0]


def edited(tmp_path, old, new):
    text = (REPOSITORY / "cluster.yaml").read_text()
    assert old in text
    (tmp_path / "cluster.yaml").write_text(text.replace(old, new))
    return str(tmp_path / "cluster.yaml")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "head"])
def test_an_open_dashboard_without_a_token_is_refused(host, tmp_path):
    host = f"--dashboard-host={host}"
    path = edited(tmp_path, "--dashboard-host=127.0.0.1", host)
    ClusterFile.read(path)  # with the token one may
    text = Path(path).read_text().replace("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled")
    Path(path).write_text(text)
    with pytest.raises(UserError, match="not sure to have RAY_AUTH_MODE=token lets everybody"):
        ClusterFile.read(path)


OPEN = "ray start --head --dashboard-host=0.0.0.0"


@pytest.mark.parametrize(
    "commands",
    [
        [OPEN],
        ["RAY_AUTH_MODE=token ray stop", OPEN],  # each command has a shell of its own
        ["export RAY_AUTH_MODE=token", OPEN],
        [f"RAY_AUTH_MODE=token ray stop; {OPEN}"],
        [f"RAY_AUTH_MODE=tokenless {OPEN}"],
        [f"export NOT_RAY_AUTH_MODE=token; {OPEN}"],
        [f"echo RAY_AUTH_MODE=token; {OPEN}"],
        [f"RAY_AUTH_MODE=token; {OPEN}"],  # of the shell alone
        [f"(export RAY_AUTH_MODE=token); {OPEN}"],
        [f"export RAY_AUTH_MODE=token; unset RAY_AUTH_MODE; {OPEN}"],
        [f"export RAY_AUTH_MODE=token\nexport RAY_AUTH_MODE=disabled\n{OPEN}"],
        [f"{OPEN}; export RAY_AUTH_MODE=token"],
        ["ray start --head --dashboard-host '0.0.0.0'"],
        ["ray start --head"],  # its other ports are open on all addresses
        ["ray start --head --dashboard-host=127.0.0.1"],
        ["bash -c 'ray start --head'"],
        ["export RAY_AUTH_MODE=token; ray stop"],
        [f"RAY_AUTH_MODE=token {OPEN}", "ray start --head"],
        [],
        ["ray start --head --dashboard-host= --port=6379"],  # all addresses
        [f"export RAY_AUTH_MODE=token & {OPEN}"],  # of another shell
        [f"export RAY_AUTH_MODE=token | cat; {OPEN}"],
        [f"false && export RAY_AUTH_MODE=token; {OPEN}"],
        [f"false &&\nexport RAY_AUTH_MODE=token; {OPEN}"],
        [f"true || export RAY_AUTH_MODE=token; {OPEN}"],
        [f"export RAY_AUTH_MODE=token && export RAY_AUTH_MODE= && false; {OPEN}"],
        [f"export A=$(x; export RAY_AUTH_MODE=token; y); {OPEN}"],
        [f"export A=`x; export RAY_AUTH_MODE=token; y`; {OPEN}"],
        [f"echo ';' export RAY_AUTH_MODE=token ';'; {OPEN}"],
        [f"true # ; export RAY_AUTH_MODE=token\n{OPEN}"],
        [f"export RAY_AUTH_MODE=token; {OPEN} {'a' * 1000} | cat"],
        [f"cat << E\nexport RAY_AUTH_MODE=token\nE\n{OPEN}"],
        [f"if false; then true; export RAY_AUTH_MODE=token; fi; {OPEN}"],
        [f"function f {{\nexport RAY_AUTH_MODE=token\n}}\n{OPEN}"],
        [f"export RAY_AUTH_MODE=token; RAY_AUTH_MODE=; {OPEN}"],
        [f"export RAY_AUTH_MODE=token; export -n RAY_AUTH_MODE; {OPEN}"],
        [f"export RAY_AUTH_MODE=token; source other.sh; {OPEN}"],
        [f"export RAY_AUTH_MODE=token; env -i {OPEN}"],
        [f"export RAY_AUTH_MODE=token; sudo {OPEN}"],
        [f"export RAY_AUTH_MODE=token; exec -c {OPEN}"],
        [f"export RAY_AUTH_MODE=token; bash -c 'unset RAY_AUTH_MODE; {OPEN}'"],
    ],
)
def test_a_token_that_ray_start_does_not_see(commands, tmp_path):
    with pytest.raises(UserError, match="not sure to have RAY_AUTH_MODE=token lets everybody"):
        ClusterFile.read(started_by(commands, tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        f"RAY_AUTH_MODE=token {OPEN}",
        f"env A=1 RAY_AUTH_MODE=token {OPEN}",
        f"set -e && export RAY_AUTH_MODE=token PATH=$HOME/bin:$PATH && {OPEN}",
        f"export A='b;c' RAY_AUTH_MODE=token\nray stop\n{OPEN}",
        f"unset A; export RAY_AUTH_MODE='token' B=${{C}}; set -- $D; cd \"$HOME\"; {OPEN} --x=$3",
        f"true && export RAY_AUTH_MODE=token && {OPEN}; true",
        f"source other.sh; export RAY_AUTH_MODE=token; ~/.venv/bin/{OPEN}",
        f"RAY_AUTH_MODE=token \\\n{OPEN}",
        "export RAY_AUTH_MODE=token; ray start --head",
    ],
)
def test_a_token_that_ray_start_sees(command, tmp_path):
    ClusterFile.read(started_by(["ray stop", command], tmp_path))


def test_a_command_that_is_none(tmp_path):
    with pytest.raises(UserError, match="head_start_ray_commands: No closing quotation"):
        ClusterFile.read(started_by(["ray start --head '"], tmp_path))


def started_by(commands, tmp_path):
    config = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    (tmp_path / "cluster.yaml").write_text(
        yaml.safe_dump(config | {"head_start_ray_commands": commands})
    )
    return str(tmp_path / "cluster.yaml")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("host", False),
        ("", False),
    ],
)
def test_loopback(host, own):
    assert is_loopback(host) == own


def test_the_token_is_its_owners_alone(tmp_path, monkeypatch):
    """Ray writes it as the umask has it: 022 lets everybody read."""
    home, program = tmp_path / "home", tmp_path / "ray"
    home.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "get-auth-token --generate" ] && echo s3cret | tee {home}/.ray/auth_token\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(commands, "program", lambda: str(program))
    file = ClusterFile.read(str(REPOSITORY / "cluster.yaml"))
    before = os.umask(0o022)
    try:
        commands.make_token(file)
    finally:
        os.umask(before)
    assert commands.token() == "s3cret"
    folder = home / ".ray"
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "auth_token")]
    assert modes == [0o700, 0o600]
    (folder / "auth_token").chmod(0o644)  # as an older Ray, or a copy, has left it
    commands.make_token(file)
    assert (folder / "auth_token").stat().st_mode & 0o777 == 0o600
    assert commands.token() == "s3cret"


@pytest.mark.parametrize("name", ["docs/cluster.md", *FILES])
def test_the_token_that_is_made_as_the_documents_say(name, tmp_path):
    """By Ray's own command, where ~/.ray is open already: closed from the start, and not shown."""
    lines = [line.lstrip("# ") for line in (REPOSITORY / name).read_text().splitlines()]
    at = next(k for k, line in enumerate(lines) if "ray get-auth-token --generate >" in line)
    (tmp_path / ".ray").mkdir(mode=0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/ray").write_text(
        "#!/bin/sh\necho s3cret | tee ~/.ray/auth_token; stat -c %a ~/.ray/auth_token > ~/mode\n"
    )
    (tmp_path / ".venv/bin/ray").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e; umask 022", *lines[at : at + 2]])],
        env=os.environ | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "mode").read_text() == "600\n"
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in (".ray", ".ray/auth_token")]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("name", FILES)
def test_the_token_is_closed_on_the_hosts_too(name):
    setup = yaml.safe_load((REPOSITORY / name).read_text())["setup_commands"]
    assert "chmod 600 ~/.ray/auth_token" in " ".join(setup)
