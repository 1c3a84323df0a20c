"""What holds secrets, or tells of runs, is neither committed nor sent to a cluster with a job."""

import subprocess
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
PRIVATE = [
    ".slurm-17-aBcD/token",  # of cluster/slurm.sbatch
    "mimray-17.log",
    "basic_auth.db",  # of `mimray ui` with passwords: their hashes
    "basic_auth.db-journal",
    "mlflow.db",
    "runs/first/run.json",
    ".env",
    "cluster/mlflow/.env",
]
SENT = ["mimray/cli.py", "mimray/recipes/demo.yaml", "jobs/pretrain.py", "requirements.lock"]


def sent(name, **options):
    """Whether Ray would put a file of the project's folder into a job's upload."""
    excluded = get_excludes_from_ignore_files(REPOSITORY, **options)
    return not any(excludes(REPOSITORY / name) for excludes in excluded)


def committed(name):
    """Whether `git add` would take it."""
    asked = ["git", "check-ignore", "--quiet", "--no-index", name]
    return subprocess.run(asked, cwd=REPOSITORY).returncode == 1


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_private(name):
    assert not committed(name)
    assert not sent(name, include_gitignore=True)
    assert not sent(name, include_gitignore=False)  # where Ray is told to leave .gitignore alone


@pytest.mark.parametrize("name", SENT)
def test_what_a_job_needs(name):
    assert committed(name) and sent(name, include_gitignore=True)
