"""`mimray cluster submit`: a job from its words to its end; Ray is a stand-in."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from mimray.cli import build_parser
from mimray.verbs.cluster import following, tunnel
from mimray.verbs.cluster.submit import VERBS, exit_status, run
from tests.verbs.stand_in import FILE, PLAN, REPOSITORY, submit

pytestmark = pytest.mark.unit


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
