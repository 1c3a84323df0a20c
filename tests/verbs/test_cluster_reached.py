"""`mimray cluster` where the way to the job server is bad, or is not the tunnel; Ray is a stand-in."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mimray.cli import main
from mimray.verbs.cluster import commands, tunnel
from mimray.verbs.cluster.file import ClusterFile
from tests.verbs.stand_in import FILE, submit

pytestmark = pytest.mark.unit
RUNNING = json.dumps({"a": {"submission_id": "a", "status": "RUNNING"}})


@pytest.fixture
def proxy(monkeypatch):
    """Notes what a company's proxy is asked for."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()


def test_no_proxy_is_told_the_token(ray, proxy):
    assert main(["cluster", "status", FILE]) == 0
    assert not proxy


def test_rays_own_commands_go_by_no_proxy(monkeypatch):
    import requests

    monkeypatch.setenv("http_proxy", "http://proxy.example:1")
    monkeypatch.setenv("no_proxy", "internal.example")
    found = commands.environment(ClusterFile.read(FILE))
    assert found["no_proxy"] == "internal.example,127.0.0.1,localhost"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, found[name])
    assert requests.utils.should_bypass_proxies("http://127.0.0.1:8265/api/jobs/", None)
    assert not requests.utils.should_bypass_proxies("http://elsewhere.example/", None)


@pytest.fixture
def mute(ray, monkeypatch):
    """A job runs, and its server says nothing but 500."""
    monkeypatch.setattr(tunnel, "_OPEN_SECONDS", 2.0)
    (ray.folder / "jobs").write_text(RUNNING)
    ray.plan(mute_at="version")
    return ray


def test_up_kills_no_jobs_of_which_it_cannot_learn(mute, capsys):
    assert main(["cluster", "up", FILE]) == 3
    assert not mute.calls("up")
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the cluster is up, and does not say whether jobs run (HTTP Error 500" in last


def test_down_says_that_checkpoints_may_be_missing(mute, capsys):
    assert main(["cluster", "down", FILE]) == 3
    assert mute.calls("down") and not mute.calls("job", "stop")
    out, err = capsys.readouterr()
    assert out == "" and "jobs may lack their last checkpoints" in err.splitlines()[-1]


def test_down_of_a_cluster_without_a_job_server(ray, capsys):
    ray.plan(absent=[1])
    assert main(["cluster", "down", FILE]) == 0
    out, err = capsys.readouterr()
    assert out == "" and "no job is stopped, for their server is not reached: " in err
    assert "is the cluster up?" not in err


def test_a_way_that_is_gone_for_a_moment(ray, capsys):
    ray.plan(breaks=["after"], absent=[2, 3])
    assert submit("pretrain", "demo") == 0
    out, err = capsys.readouterr()
    assert err.count("opening another tunnel") == 3 and "is the cluster up?" not in err
    assert len(ray.calls("dashboard")) == 4 and len(ray.calls("job", "submit")) == 1
    assert json.loads(out)["exit_status"] == 0


def test_a_way_that_is_gone_for_long(ray, capsys):
    ray.plan(breaks=["after"], absent=list(range(2, 99)))
    assert submit("pretrain", "demo") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    name = ray.calls("job", "submit")[0][0][4]
    assert last.startswith("mimray: the job server does not answer: ")
    assert "Could not resolve hostname" in last and "is the cluster up?" not in last
    assert last.endswith(f"; job {name} goes on without us")


def test_a_cluster_that_was_never_there(ray, capsys):
    ray.plan(absent=[1])
    assert submit("pretrain", "demo") == 3
    assert "is the cluster up? `mimray cluster up" in capsys.readouterr().err
    assert len(ray.calls("dashboard")) == 1 and not ray.calls("job", "submit")


def test_pauses_grow(monkeypatch):
    waited = []
    monkeypatch.setattr(tunnel.time, "sleep", waited.append)
    patience = tunnel.Patience()
    while patience.lasts():
        pass
    assert waited == sorted(set(waited)) and 60 < sum(waited) < 120
