"""`mimray cluster`: what it runs of Ray's, and what it adds; Ray is a stand-in."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mimray.cli import build_parser, main
from mimray.verbs.cluster import commands, file, following, hosts, tunnel
from mimray.verbs.cluster.file import ClusterFile
from mimray.verbs.cluster.submit import VERBS, exit_status, run

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
FILE = str(REPOSITORY / "cluster.yaml")
HEAD, WORKER = "192.0.2.1", "192.0.2.2"  # of cluster.yaml
PLAN = {
    "token": "s3cret-token",
    "log": ["one", "two", "three", "four"],
    "end": {"status": "SUCCEEDED", "driver_exit_code": 0},
    "breaks": [],
    "breaks_at": "logs",
    "absent": [],
    "mute_at": None,
    "fails": [],
    "unreadable": False,
    "waits": False,
    "monitor": "",
    "joins": None,
    "status": 0,
}


LOG = (
    3
    * """Shared connection to 192.0.2.2 closed.
ssh: connect to host 192.0.2.2 port 22: Connection refused
2026-11-22 03:20:26,930\tVVINFO command_runner.py:401 -- Full command is `ssh 192.0.2.2`
2026-11-22 03:20:26,930\tINFO log_timer.py:25 -- NodeUpdater: 192.0.2.2: Start failed [LogTimer=975ms]
2026-11-22 03:20:26,932\tERR updater.py:177 -- \x1b[31mNew status: \x1b[1mupdate-failed\x1b[22m\x1b[39m
"""
)
"""Of a head whose worker cannot be reached, three times."""


class Fake:
    """Ray's stand-in: its folder, and how it is told what to do."""

    def __init__(self, folder):
        self.folder = folder
        (folder / ".ray").mkdir()
        (folder / ".ray/auth_token").write_text(PLAN["token"])
        (folder / "jobs").write_text("{}")
        self.hosts(HEAD, WORKER)
        self.plan()
        self.program = folder / "ray"
        script = REPOSITORY / "tests/verbs/fake_ray.py"
        self.program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} {folder} "$@"\n')
        self.program.chmod(0o755)
        (folder / "bin").mkdir()
        (folder / ".ssh").mkdir()
        (folder / ".ssh/mimray").touch()  # of cluster.yaml
        self.lets_in(HEAD, WORKER)

    def lets_in(self, *hosts):
        """What `ssh` from here reaches, and not by way of another host; it notes its words."""
        ways = "".join(f"  *@{host}\\ *) exit 0 ;;\n" for host in hosts)
        ssh = self.folder / "bin/ssh"
        ssh.write_text(
            f'#!/bin/sh\necho "$*" >> {self.folder}/ssh\ncase "$*" in\n*-W*) ;;\n{ways}esac\nexit 255\n'
        )
        ssh.chmod(0o755)

    def plan(self, **changes):
        (self.folder / "plan").write_text(json.dumps(PLAN | changes))

    def hosts(self, *addresses):
        alive = {"state": "ALIVE", "resources_total": {"CPU": 2.0}}
        found = [{"node_ip": address} | alive for address in addresses]
        (self.folder / "hosts").write_text(json.dumps([*found, {"node_ip": "x", "state": "DEAD"}]))

    def calls(self, *first):
        """Words of the commands that begin so, and the variables that they had."""
        lines = (self.folder / "calls").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [(words, known) for words, known in found if words[: len(first)] == list(first)]


@pytest.fixture
def ray(tmp_path, monkeypatch):
    fake = Fake(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(commands, "program", lambda: str(fake.program))
    monkeypatch.setattr(tunnel, "program", lambda: str(fake.program))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(file, "_EXAMPLES", "none")  # the file's hosts are ours
    for module in (hosts, following):
        monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(tunnel, "_WAIT_SECONDS", 0.05)
    return fake


@pytest.fixture(autouse=True)
def projects_folder(monkeypatch):
    """Where one submits from."""
    monkeypatch.chdir(REPOSITORY)


def submit(*words):
    return main(["cluster", "submit", FILE, "--json", "--", *words])


# ----- submit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", 75, 75),
        ("FAILED", None, 3),  # it never began
        ("FAILED", 137, 3),
        ("STOPPED", None, 75),
    ],
)
def test_exit_status(status, code, expected):
    assert exit_status({"status": status, "driver_exit_code": code}) == expected


def test_a_job_that_ends_by_itself(ray, capsys):
    ray.plan(end={"status": "FAILED", "driver_exit_code": 2})
    assert submit("pretrain", "demo", "mask.ratio=2", "--json") == 2
    ((words, known),) = ray.calls("job", "submit")
    assert words[-7:] == [
        "python",
        "-m",
        "mimray.cli",
        "pretrain",
        "demo",
        "mask.ratio=2",
        "--json",
    ]
    assert known["RAY_AUTH_MODE"] == "token" and "127.0.0.1" in known["RAY_API_SERVER_ADDRESS"]
    variables = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
    assert float(variables["RAY_JOB_STOP_WAIT_TIME_S"]) >= 60
    said = capsys.readouterr()
    assert json.loads(said.out)["exit_status"] == 2
    shown = [line for line in said.err.splitlines() if not line.startswith("$ ")]
    assert shown == PLAN["log"]
    assert f"ray dashboard --port {known['RAY_API_SERVER_ADDRESS'].rpartition(':')[2]}" in said.err


def shown(said):
    """What is neither a command nor said of the tunnel."""
    other = ("$ ", "the job server does not answer; opening")
    return [line for line in said.splitlines() if not line.startswith(other)]


def test_what_would_be_uploaded_or_shown_is_looked_at_first(ray, monkeypatch, tmp_path, capsys):
    assert submit("pretrain", "demo", "data.train=s3://key:pa/ssword@bucket") == 2
    said = capsys.readouterr().err
    assert "data.train=s3://***@bucket: holds a password" in said and "pa/ssword" not in said
    monkeypatch.chdir(tmp_path)
    assert submit("pretrain", "demo") == 2
    assert "holds no mimray/cli.py" in capsys.readouterr().err
    assert not (ray.folder / "calls").exists()


@pytest.mark.parametrize("breaks", [["after"], ["within"], ["after", "after", "within"]])
def test_over_tunnels_that_break_every_line_is_shown_once_and_nothing_else(ray, capsys, breaks):
    ray.plan(breaks=breaks)
    assert submit("pretrain", "demo") == 0
    assert len(ray.calls("job", "submit")) == 1
    assert len(ray.calls("dashboard")) == len(breaks) + 1
    assert shown(capsys.readouterr().err) == PLAN["log"]


def test_a_head_that_has_started_again_does_not_know_the_job(ray, capsys):
    ray.plan(breaks=["forgotten"])
    assert submit("pretrain", "demo") == 3
    assert len(ray.calls("dashboard")) == 2
    name = ray.calls("job", "submit")[0][0][4]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"mimray: the cluster does not know job {name} any more; submit it again"


def test_who_reads_the_log_may_leave(ray, monkeypatch):
    """`mimray cluster submit ... | head`: no tunnel is opened again for that."""

    def left(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys.stdout, "write", left)
    with pytest.raises(BrokenPipeError):
        run(build_parser().parse_args(["cluster", "submit", FILE, "--", "pretrain", "demo"]))
    assert len(ray.calls("dashboard")) == 1


def test_a_log_that_ray_cannot_read_is_no_end(ray, capsys):
    ray.plan(unreadable=True)
    assert submit("pretrain", "demo") == 0
    assert len(ray.calls("dashboard")) == 1
    assert "the end of the log cannot be read" in capsys.readouterr().err


def test_a_cluster_that_is_not_there(ray, monkeypatch, capsys):
    (ray.folder / "ray").write_text("#!/bin/sh\necho ssh: no route to host\nexit 1\n")
    assert submit("pretrain", "demo") == 3
    said = capsys.readouterr().err
    assert "no way to the job server (ssh: no route to host); is the cluster up? `mimray" in said


def test_a_tunnel_that_is_silent(ray, monkeypatch, capsys):
    monkeypatch.setattr(tunnel, "_OPEN_SECONDS", 0.2)
    (ray.folder / "ray").write_text("#!/bin/sh\nexec sleep 60\n")
    assert submit("pretrain", "demo") == 3
    assert "no way to the job server in 0 s (no answer); is" in capsys.readouterr().err


def test_another_token(ray, capsys):
    (ray.folder / ".ray/auth_token").write_text("other")
    assert submit("pretrain", "demo") == 2
    assert "another token than ~/.ray/auth_token" in capsys.readouterr().err
    (ray.folder / ".ray/auth_token").unlink()
    assert submit("pretrain", "demo") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "mimray: ~/.ray/auth_token: No such file or directory; `mimray cluster up` makes it with the "
        "cluster; of one that was started elsewhere, take it from there"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pretran", "demo"), "'pretran': no such verb; did you mean pretrain"),
        (("--debug",), "'': no such verb; known: demo, "),
        (("ui",), "ui: is no job: its pages are for the machine that it runs on"),
        (("cluster", "status", FILE), "cluster: is no job: it starts and asks a cluster"),
    ],
)
def test_what_is_no_verb_is_said_before_the_cluster_is_asked(ray, capsys, words, says):
    (ray.folder / ".ray/auth_token").unlink()
    assert submit(*words) == 2
    assert capsys.readouterr().err.startswith(f"mimray: {says}")
    assert not (ray.folder / "calls").exists()


def test_all_other_verbs_are_jobs(ray):
    (verbs,) = (action.choices for action in build_parser()._actions if action.dest == "verb")
    assert set(VERBS) == set(verbs) - {"ui", "cluster"}
    assert submit("--debug", "pretrain", "demo") == 0


def test_a_job_server_that_does_not_answer_is_not_asked_for_ever(ray, capsys, monkeypatch):
    monkeypatch.setattr(tunnel, "_BROKEN", 3)
    ray.plan(mute_at="job")
    assert submit("pretrain", "demo") == 3
    assert len(ray.calls("dashboard")) == 3
    name = ray.calls("job", "submit")[0][0][4]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mimray: the job server does not answer: HTTP Error 500")
    assert last.endswith(f"; job {name} goes on without us")


def test_a_submission_that_fails_on_the_way_names_the_job(ray, capsys):
    ray.plan(fails=[["job", "submit"]])
    assert submit("pretrain", "demo") == 3
    name = ray.calls("job", "submit")[0][0][4]
    says = (
        f"ray: it failed; whether the cluster has job {name} all the same, `mimray cluster status"
    )
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_a_token_is_told_to_nobody_else(monkeypatch, tmp_path):
    """Another user may listen on the port before ssh does; only Linux tells whose a port is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert not tunnel._ours(port), "nobody listens yet"
        taken.listen()
        assert tunnel._ours(port)
        table = tmp_path / "tcp"
        rows = tunnel._LISTENERS.read_text().splitlines()
        theirs = [row.split() for row in rows]
        for row in theirs[1:]:
            row[7] = "4711"
        table.write_text("\n".join(map(" ".join, theirs)))
        monkeypatch.setattr(tunnel, "_LISTENERS", table)
        assert not tunnel._ours(port)
        monkeypatch.setattr(tunnel, "_LISTENERS", tmp_path / "none")
        assert tunnel._ours(port)


@pytest.fixture
def under_way(ray):
    """A submission in a process of its own, with a stand-in beside its Python; its job runs, and waits."""
    ray.plan(waits=True)
    code = (
        "import sys; from mimray.cli import main\n"
        "from mimray.verbs.cluster import commands, file, following, tunnel\n"
        "file._EXAMPLES = 'none'\n"
        "for m in (commands, tunnel): m.program = lambda: sys.argv[1]\n"
        "following._LOOK_SECONDS = 0.05\n"
        "sys.exit(main(sys.argv[2:]))"
    )
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", code, str(ray.program)),
            *("cluster", "submit", FILE, "--", "pretrain", "demo"),
        ],
        env=os.environ | {"HOME": str(ray.folder)},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    late = threading.Timer(100, process.kill)  # what is waited for does not come
    late.start()
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"  # the job is followed
    yield process
    late.cancel()
    process.kill()
    process.communicate()


def test_ctrl_c_stops_the_job(ray, under_way):
    under_way.send_signal(signal.SIGINT)
    out, said = under_way.communicate(timeout=60)
    assert under_way.returncode == 75, said
    assert len(ray.calls("job", "stop")) == 1
    assert out.endswith("three\nfour\n")  # what it says as it ends
    assert f"the same command goes on: mimray cluster submit {FILE} -- pretrain demo" in said


def goes_on(ray, process):
    """It ends and says that the job does not, and not that the same command would go on."""
    _, said = process.communicate(timeout=60)
    name = ray.calls("job", "submit")[0][0][4]
    says = f"mimray: job {name} goes on without us; `mimray cluster status {FILE}` shows it"
    assert (process.returncode, said.splitlines()[-1]) == (3, says)
    assert "the same command" not in said


def test_ctrl_c_twice_leaves_the_job_to_itself(ray, under_way):
    (ray.folder / "holds").touch()  # the job takes its time
    under_way.send_signal(signal.SIGINT)
    assert any("once more leaves it to itself" in line for line in under_way.stderr)
    under_way.send_signal(signal.SIGINT)
    goes_on(ray, under_way)


def test_a_terminal_that_closes_leaves_the_job_to_itself(ray, under_way):
    under_way.send_signal(signal.SIGHUP)
    goes_on(ray, under_way)
    assert not ray.calls("job", "stop")


def test_ctrl_c_tries_again_where_the_job_was_not_to_be_stopped(ray, under_way):
    ray.plan(waits=True, fails=[["job", "stop"]])
    under_way.send_signal(signal.SIGINT)
    said = ""
    for line in under_way.stderr:
        said += line
        if "Ctrl-C tries again" in line:
            break
    assert "is not stopped: ray: it failed; Ctrl-C tries again" in said
    ray.plan(waits=True)
    under_way.send_signal(signal.SIGINT)
    _, rest = under_way.communicate(timeout=60)
    assert under_way.returncode == 75, rest
    assert len(ray.calls("job", "stop")) == 2


def test_ctrl_c_before_there_is_a_job(ray, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(following, "tunnel", interrupted)
    with pytest.raises(KeyboardInterrupt):  # "the same command goes on" is right then
        run(build_parser().parse_args(["cluster", "submit", FILE, "--", "pretrain", "demo"]))


# ----- up, status ---------------------------------------------------------------------------------


def test_up_makes_the_token_and_waits_for_all_hosts(ray, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (ray.folder / ".ray/auth_token").unlink()
    ray.hosts(HEAD)
    ray.plan(joins=WORKER)
    assert main(["cluster", "up", FILE]) == 0
    ((words, known),) = ray.calls("up")
    assert words == ["up", "-y", FILE]
    assert known == {"RAY_AUTH_MODE": "token", "RAY_UP_enable_autoscaler_v2": "0"}
    said = capsys.readouterr()
    assert f"1 of 2 hosts have joined, missing {WORKER}" in said.err
    assert f"$ RAY_AUTH_MODE=token RAY_UP_enable_autoscaler_v2=0 ray up -y {FILE}" in said.err
    assert WORKER in said.out and "2 CPU" in said.out


def test_up_names_the_host_that_failed_and_why(ray, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    ray.hosts(HEAD)
    ray.plan(monitor=LOG)
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"missing {WORKER}; the head keeps trying, and its log says: " in last
    assert last.endswith(
        "ssh: connect to host 192.0.2.2 port 22: Connection refused | NodeUpdater: 192.0.2.2: Start "
        "failed [LogTimer=975ms] | New status: update-failed"
    )


def test_up_says_which_python_a_host_has(ray, capsys):
    """Ray lets no host join whose Python is not the head's to the last number."""
    ray.hosts(HEAD)
    mismatch = f"""RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.60.0
    Python: 3.11.7
This process on node {WORKER} was started with:
    Ray: 2.60.0
    Python: 3.12.3
New status: update-failed
"""
    ray.plan(monitor=3 * mismatch)
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert (
        f"Python: 3.11.7 | This process on node {WORKER} was started with: | Python: 3.12.3" in last
    )


def test_up_elsewhere_than_in_the_projects_folder(ray, capsys, monkeypatch):
    monkeypatch.chdir(ray.folder)
    assert main(["cluster", "up", FILE]) == 2
    assert "run this in the project's folder" in capsys.readouterr().err
    assert not ray.calls("up") if (ray.folder / "calls").exists() else True


def test_status_names_who_is_missing(ray, capsys):
    ray.hosts(HEAD)
    ray.plan(monitor=f"{WORKER}: permission denied")
    assert main(["cluster", "status", FILE, "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["hosts"] == [{"address": HEAD, "CPU": 2.0}]
    assert (result["missing"], result["reasons"]) == ([WORKER], [f"{WORKER}: permission denied"])
    ray.hosts(HEAD, "172.16.0.9")  # known to Ray by another address
    assert main(["cluster", "status", FILE]) == 0


@pytest.mark.parametrize("how", ["after", "within"])
def test_up_and_status_over_a_tunnel_that_breaks(ray, capsys, how):
    ray.plan(breaks=[how, how], breaks_at="nodes")
    assert main(["cluster", "up", FILE]) == 0
    if how == "within":
        assert "the job server does not answer; opening another tunnel" in capsys.readouterr().err
    (ray.folder / "broken").unlink()
    ray.plan(breaks=["within"], breaks_at="nodes")
    assert main(["cluster", "status", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        f"mimray: {FILE}: the job server was reached, and does not answer any more ("
    )


def test_up_of_hosts_that_nobody_tells_comes_to_an_end(ray, capsys, monkeypatch):
    monkeypatch.setattr(tunnel, "_BROKEN", 3)
    ray.plan(mute_at="nodes")
    assert main(["cluster", "up", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "does not say which hosts have joined (HTTP Error 500" in last
    assert last.endswith(f"`mimray cluster status {FILE}` asks again")


def test_up_asks_for_the_clusters_own_key(ray, capsys):
    (ray.folder / ".ssh/mimray").unlink()
    assert main(["cluster", "up", FILE]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "`ssh-keygen -t ed25519 -N '' -f ~/.ssh/mimray`" in last
    assert "`ssh-copy-id -i ~/.ssh/mimray mimray@HOST`, for every host" in last
    assert not (ray.folder / "calls").exists()


# ----- files --------------------------------------------------------------------------------------


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
