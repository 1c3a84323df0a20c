"""`mimray cluster down`: what is ended, and what it says of what is not; Ray and ssh are stand-ins."""

import json
import subprocess

import pytest

from mimray.cli import main
from mimray.verbs.cluster.down import stop_on_all_hosts
from mimray.verbs.cluster.file import ClusterFile
from tests.verbs.stand_in import FILE, HEAD, WORKER

pytestmark = pytest.mark.unit


def test_down_stops_jobs_and_every_host(ray):
    (ray.folder / "jobs").write_text(
        json.dumps(
            {
                "a": {"submission_id": "a", "status": "RUNNING"},
                "b": {"submission_id": "b", "status": "SUCCEEDED"},
            }
        )
    )
    assert main(["cluster", "down", FILE]) == 0
    assert [words[2:] for words, _ in ray.calls("job", "stop")] == [["a"]]
    ((words, _),) = ray.calls("exec")
    own = "~/mimray/.venv/bin/ray stop"
    first, loop, then, done = words[-1].split("; ")
    assert first == f"{own} || echo 'not ended: {HEAD}'"
    assert (loop, done) == (f"for host in {WORKER}", "done")
    assert then.startswith("do ssh -i ~/ray_bootstrap_key.pem ")
    assert then.endswith(f" mimray@$host '{own}' || echo \"not ended: $host\"")
    assert [words for words, _ in ray.calls("down")] == [["down", "-y", FILE]]
    assert not (ray.folder / "ssh").exists()


ALONE = f"not ended: {WORKER}\r\nShared connection to {HEAD} closed."


@pytest.mark.parametrize(
    ("plan", "lets_in", "left"),
    [
        ({"monitor": ALONE}, [], [WORKER]),
        ({"monitor": ALONE}, [WORKER], []),
        ({"fails": [["exec"]]}, [HEAD], [WORKER]),
        ({"fails": [["exec"]]}, [HEAD, WORKER], []),
    ],
)
def test_down_names_the_hosts_that_it_could_not_end(ray, capsys, plan, lets_in, left):
    ray.plan(**plan)
    ray.lets_in(*lets_in)
    assert main(["cluster", "down", FILE]) == (3 if left else 0)
    assert len(ray.calls("down")) == 1, "what is left does not keep the rest"
    said = capsys.readouterr().err.splitlines()[-1]
    for host in left:
        assert f"Ray may still run on {host}: " in said
        by_hand = f"ssh -i ~/.ssh/mimray mimray@{host} '~/mimray/.venv/bin/ray stop'"
        assert said.endswith(f"; end it: {by_hand}")
    asked = (ray.folder / "ssh").read_text()
    assert f"-i {ray.folder}/.ssh/mimray " in asked and "BatchMode=yes" in asked
    assert (f"@{HEAD}" in asked) == ("fails" in plan)


def test_hosts_that_could_not_be_ended_share_a_command(ray, capsys):
    ray.plan(fails=[["exec"]])
    ray.lets_in()
    assert main(["cluster", "down", FILE]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    by_hand = "`ssh -i ~/.ssh/mimray mimray@HOST '~/mimray/.venv/bin/ray stop'`"
    assert f"run on {HEAD}, {WORKER}: " in said and said.endswith(
        f"end it: for each HOST {by_hand}"
    )


def test_down_says_whose_checkpoint_may_be_missing(ray, capsys):
    (ray.folder / "jobs").write_text(json.dumps({"a": {"submission_id": "a", "status": "RUNNING"}}))
    ray.plan(fails=[["job", "stop"], ["down"]])
    assert main(["cluster", "down", FILE]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "job a may lack its last checkpoint" in last and "`ray down` ended with" in last


def test_the_head_names_each_host_where_ray_was_not_ended(ray):
    """As its shell runs the command: `ray` is not there, and ssh comes back with 255."""
    command = stop_on_all_hosts(ClusterFile.read(FILE))
    assert command.count("ConnectTimeout") == 1, "once for all hosts"
    for hosts, said in [
        ((), f"not ended: {HEAD}\nnot ended: {WORKER}\n"),
        ((WORKER,), f"not ended: {HEAD}\n"),
    ]:
        ray.lets_in(*hosts)
        done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, text=True)
        assert (done.returncode, done.stdout) == (0, said)


@pytest.mark.parametrize(
    ("commands", "own"),
    [
        ([], "ray stop"),
        (["ray stop; ray start --head"], "ray stop"),  # it would start again
        (
            ["ulimit -n 9; x/ray stop --force", "ray start --head"],
            "ulimit -n 9; x/ray stop --force",
        ),
        (["ray stop -g 5", "ray start --head"], "ray stop -g 5"),
    ],
)
def test_what_a_file_ends_ray_with(commands, own):
    config = {
        "provider": {"type": "local", "head_ip": "h", "worker_ips": ["a"]},
        "auth": {"ssh_user": "u"},
        "head_start_ray_commands": commands,
    }
    steps = stop_on_all_hosts(ClusterFile("f", config))
    assert steps.startswith(f"{own} || echo 'not ended: h'; for host in a; do ssh ")
    assert steps.endswith(" u@$host 'ray stop' || echo \"not ended: $host\"; done")
