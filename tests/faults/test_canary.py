"""A secret of the environment, or of the cluster's file, is in no byte of what a run leaves behind."""

import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.train.runs import TINY, command, environment

pytestmark = pytest.mark.faults
NAMES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MY_TOKEN", "DATABASE_PASSWORD", "ANYTHING")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def place():
    """A working directory with a `cluster.yaml` that has a secret, and the secrets by name.

    Its path is short, for Ray's sockets lie in it too.
    """
    known = {name: f"canary-{secrets.token_hex(16)}" for name in (*NAMES, "cluster.yaml")}
    text = (REPOSITORY / "cluster.yaml").read_text()
    with tempfile.TemporaryDirectory(prefix="c-") as name:
        (Path(name) / "cluster.yaml").write_text(f"{text}\n# token: {known['cluster.yaml']}\n")
        yield Path(name), known


def train(folder: Path, known: dict[str, str], *words: str) -> subprocess.CompletedProcess:
    secret = {name: known[name] for name in NAMES}
    return subprocess.run(
        command(folder, *TINY, *words),
        env=environment(**secret, TMPDIR=str(folder)),
        cwd=folder,
        capture_output=True,
        timeout=240,
    )


def leaks(folder: Path, known: dict[str, str]) -> list[str]:
    """Files under a folder, and what they tell of which only `cluster.yaml` itself may."""
    found = []
    for file in folder.rglob("*"):
        if file.is_file() and file != folder / "cluster.yaml":
            data = os.fsencode(file) + file.read_bytes()
            found += [
                f"{file}: {name}" for name, secret in known.items() if secret.encode() in data
            ]
    return found


@pytest.mark.parametrize("end", ["finished", "failed"])
def test_no_secret_is_left_behind(place, end):
    folder, known = place
    words = {"finished": [], "failed": ["optim.lr=1e30", "optim.clip=1e30", "optim.rollbacks=0"]}
    done = train(folder, known, *words[end])
    assert done.returncode == {"finished": 0, "failed": 3}[end], done.stderr
    (folder / "said").write_bytes(done.stdout + done.stderr)
    left = {file.name for file in folder.rglob("*")}
    assert left >= {"said", "run.json", "metrics.jsonl", "mlflow.db", "mlartifacts"}
    assert leaks(folder, known) == []
    (folder / "said").write_text(known["MY_TOKEN"])
    assert leaks(folder, known) == [f"{folder}/said: MY_TOKEN"]
