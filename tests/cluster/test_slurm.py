"""cluster/slurm.sbatch with stand-ins for Slurm's own commands: "nodes" are this machine, twice."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.clusters import REPOSITORY
from tests.train.local_ray import BIN, processes_with
from tests.train.runs import TINY, Finished, environment

SCRIPT = REPOSITORY / "cluster/slurm.sbatch"
NUMBER = "4711"
SRUN = r"""#!/bin/bash
# the command that follows srun's own options
echo "$*" >> "$NOTES/srun"
[[ -z ${FAILS:-} || $* != *$FAILS* ]] || exit 1
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = r"""#!/bin/bash
echo "$*" >> "$NOTES/scontrol"
[[ $1 != show ]] || printf 'localhost\nlocalhost\n'
"""


@pytest.mark.unit
def test_bash_and_shellcheck_take_it():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)


@pytest.mark.unit
@pytest.mark.parametrize("there", ["nothing", "own", "link"])
def test_rays_folder_is_closed_and_not_somebody_elses(there, tmp_path):
    """What a link would lead to is opened to all by Ray."""
    (closed,) = re.findall(r"^closed='(.+)'$", SCRIPT.read_text(), re.MULTILINE)
    folder, home = tmp_path / "own", tmp_path / "home"
    home.mkdir(mode=0o755)
    if there == "own":  # of a second Ray on the node
        folder.mkdir(mode=0o755)
    elif there == "link":
        folder.symlink_to(home)
    done = subprocess.run(
        ["sh", "-c", closed, folder, "echo", "it", "starts"], capture_output=True, text=True
    )
    well = there in ("nothing", "own")
    assert (done.returncode == 0, done.stdout) == (well, "it starts\n" if well else "")
    assert not well or folder.stat().st_mode & 0o777 == 0o700
    assert home.stat().st_mode & 0o777 == 0o755


@pytest.mark.unit
@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to somebody else, which needs root")
def test_rays_folder_is_not_made_in_one_of_somebody_else(tmp_path):
    (closed,) = re.findall(r"^closed='(.+)'$", SCRIPT.read_text(), re.MULTILINE)
    folder = tmp_path / "own"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    assert subprocess.run(["sh", "-c", closed, folder, "echo"], check=False).returncode


@pytest.mark.unit
def test_slurm_asks_in_time_and_queues_it_again():
    options = re.findall(r"^#SBATCH --(\S+)", SCRIPT.read_text(), re.MULTILINE)
    assert {"signal=B:TERM@120", "requeue", "open-mode=append", "exclusive"} <= set(options)
    lines = SCRIPT.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")], "Slurm stops reading"


RAY = r"""#!/bin/bash
# starts as SRUN lets it, and is well where the test says so
case $1 in
  health-check) [[ -e $NOTES/healthy ]] ;;
  start) exec sleep 600 ;;
esac
"""
PYTHON = f"""#!/bin/bash
# makes the token, and waits for nodes that never come, or fails at counting them
[[ $1 != - ]] || exec ${{COUNTS:-sleep 600}}
exec {sys.executable} "$@"
"""


def submit(folder: Path, *words: str, **more: str) -> subprocess.Popen:
    """The script as the first node's batch shell has it; what it says goes into a file."""
    project = folder / "project"
    tools = folder / "tools"
    for made in (project, tools):
        made.mkdir(exist_ok=True)
    if not (project / ".venv").exists():
        (project / ".venv").symlink_to(BIN.parent)
    for name in ("jobs", "mimray"):
        (project / name).symlink_to(REPOSITORY / name)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    env = environment(
        PATH=f"{tools}:{os.environ['PATH']}",
        HOME=str(folder),
        NOTES=str(folder),
        SLURM_SUBMIT_DIR=str(project),
        SLURM_JOB_ID=NUMBER,
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_CPUS_ON_NODE="2",
        RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES="200000000",
        **more,
    )
    return subprocess.Popen(
        ["bash", str(SCRIPT), *words],
        env=env,
        cwd=project,
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for(ready, job: subprocess.Popen, log: Path, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert job.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.5)


@pytest.fixture
def starting(tmp_path):
    """Submit the script with a stand-in for Ray; nothing of it is left afterwards."""
    tools = tmp_path / "project/.venv/bin"
    tools.mkdir(parents=True)
    for name, text in (("ray", RAY), ("python", PYTHON)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def begin(healthy: bool = True, job: str = "jobs/pretrain.py", **more: str) -> subprocess.Popen:
        if healthy:
            (tmp_path / "healthy").touch()
        return submit(tmp_path, *([job] if job else []), **more)

    yield begin
    for pid in processes_with("HOME", str(tmp_path)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("healthy", "more", "says"),
    [
        (False, {"FAILS": "--head"}, "Ray has ended before the run began"),
        (True, {"FAILS": "--exclude"}, "Ray has ended before the run began"),
        (False, {"SECONDS": "598"}, "Ray is not on all 2 nodes after 60"),
        (True, {"SECONDS": "598"}, "Ray is not on all 2 nodes after 60"),
        (True, {"COUNTS": "false"}, "the nodes could not be counted"),
    ],
)
def test_nodes_do_not_wait_for_a_ray_that_does_not_come(starting, tmp_path, healthy, more, says):
    job = starting(healthy, **more)
    assert job.wait(60) == 3
    assert says in (tmp_path / "log").read_text()
    assert not list((tmp_path / "project").glob(".slurm-*")), "the token outlived the job"
    assert "requeue" not in (tmp_path / "scontrol").read_text()


@pytest.mark.unit
def test_outside_sbatch(tmp_path):
    env = {n: v for n, v in os.environ.items() if not n.startswith("SLURM_")}
    words = ["bash", str(SCRIPT), "jobs/pretrain.py"]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    says = "this is for sbatch: sbatch cluster/slurm.sbatch jobs/pretrain.py RECIPE ...\n"
    assert done.stderr == says


@pytest.mark.unit
@pytest.mark.parametrize("name", ["jobs/pretran.py", ""])
def test_a_job_that_is_not_there_starts_no_ray(starting, tmp_path, name):
    assert starting(job=name).wait(60) == 2
    said = (tmp_path / "log").read_text()
    folder = tmp_path / "project"
    assert said == f"'{name}' is no file in {folder}; name a job, like jobs/pretrain.py demo\n"
    assert not (tmp_path / "srun").exists()


@pytest.mark.unit
def test_a_folder_without_packages_starts_no_ray(starting, tmp_path):
    (tmp_path / "project/.venv/bin/python").unlink()
    assert starting().wait(60) == 2
    assert "has no .venv; `make setup` makes it" in (tmp_path / "log").read_text()
    assert not (tmp_path / "srun").exists()


@pytest.mark.unit
def test_a_job_that_is_asked_to_stop_before_its_run_began_is_queued_again(starting, tmp_path):
    job = starting()
    srun = tmp_path / "srun"
    wait_for(
        lambda: srun.exists() and len(srun.read_text().splitlines()) == 2, job, tmp_path / "log"
    )
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(60) == 75
    assert (tmp_path / "scontrol").read_text().splitlines()[-1] == f"requeue {NUMBER}"
    deadline = time.monotonic() + 10
    while processes_with("HOME", str(tmp_path)):
        assert time.monotonic() < deadline, "it has left processes"
        time.sleep(0.1)


@pytest.mark.slow
def test_two_nodes_train_and_a_time_limit_leaves_a_checkpoint(tmp_path):
    words = [
        "demo",
        *TINY,
        "schedule.length=100000it",
        "run.checkpoint_every=100000it",
        "speed.workers=2",
    ]
    storage = [f"run.storage={tmp_path}/runs", "run.name=run", "run.tracking=off"]
    job = submit(tmp_path, "jobs/pretrain.py", *words, *storage)
    log, rows = tmp_path / "log", tmp_path / "runs/run/metrics.jsonl"
    try:
        wait_for(rows.exists, job, log)
        (token,) = (tmp_path / "project").glob(f".slurm-{NUMBER}-*/token")
        modes = [path.stat().st_mode & 0o777 for path in (token.parent, token)]
        assert modes == [0o700, 0o600]
        secret = token.read_text().strip()
        own = Path(f"/tmp/mimray-{NUMBER}-{token.parent.name[-6:]}")
        assert own.stat().st_mode & 0o777 == 0o700 and (own / "ray/session_latest").exists()
        os.kill(job.pid, signal.SIGTERM)  # as --signal=B:TERM does: the batch shell alone
        assert job.wait(120) == 75, log.read_text()[-3000:]
    finally:
        job.kill()
        for pid in processes_with("HOME", str(tmp_path)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    run = Finished(75, "", log.read_text(), tmp_path / "runs/run")
    assert run.record["status"] == "stopped"
    assert run.record["checkpoint"] == f"checkpoints/step-{run.record['steps']:08d}"
    assert run.record["steps"] == run.rows[-1]["step"]
    assert "Ray on 2 host(s): 2 CPU trainer(s)" in run.err
    asked = (tmp_path / "scontrol").read_text().splitlines()
    assert asked == ["show hostnames node[1-2]", f"requeue {NUMBER}"]
    head, others = (tmp_path / "srun").read_text().splitlines()
    assert "--nodelist=localhost" in head and "--cpu-bind=none" in head
    assert "--exclude=localhost" in others and "--nodes=1" in others
    assert not token.parent.exists(), "the token outlived the job"
    assert secret not in log.read_text() + (tmp_path / "srun").read_text()
