"""The files that start a team's MLflow: nothing without its secrets, and no secret in them."""

import re
import shutil
import stat
import subprocess

import pytest

from tests.services.team import FOLDER, composed
from tests.train.local_ray import REPOSITORY

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path):
    """A copy of `cluster/mlflow`, as somebody has it who begins."""
    place = tmp_path / "mlflow"
    shutil.copytree(FOLDER, place, ignore=shutil.ignore_patterns(".env"))
    return place


def make(folder, *names):
    return subprocess.run([folder / "secrets.sh", *names], capture_output=True, text=True)


def secrets_of(folder):
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_secrets_are_made_once_and_only_their_owner_reads_them(folder):
    assert make(folder).returncode == 2  # no name
    assert make(folder, "mlflow.example.org").returncode == 0
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    secrets = secrets_of(folder)
    drawn = [v for name, v in secrets.items() if not name.startswith("MLFLOW_SERVER_")]
    assert len(drawn) == len(set(drawn)) == 3
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in drawn)
    assert "mlflow.example.org:5000" in secrets["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    origins = secrets["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert "https://mlflow.example.org" in origins
    again = make(folder, "mlflow.example.org")
    assert again.returncode == 2 and "keeps its first password" in again.stderr
    assert secrets_of(folder) == secrets


def test_without_any_one_of_its_secrets_compose_does_not_start(folder):
    make(folder, "mlflow.example.org")
    secrets = secrets_of(folder)
    assert composed(secrets)["services"]
    for name in secrets:
        for lacking in ({**secrets, name: ""}, {k: v for k, v in secrets.items() if k != name}):
            with pytest.raises(KeyError, match=r"secrets\.sh"):
                composed(lacking)


def test_only_loopback_of_the_host_is_listened_on_and_passwords_are_asked_for(folder):
    make(folder, "mlflow.example.org")
    services = composed(secrets_of(folder))["services"]
    ports = {name: service.get("ports", []) for name, service in services.items()}
    assert ports == {"database": [], "mlflow": ["127.0.0.1:5000:5000"]}
    mlflow = services["mlflow"]
    assert mlflow["command"][-2:] == ["--app-name", "basic-auth"]
    assert mlflow["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_the_recipe_without_containers_is_the_same_one():
    page = (REPOSITORY / "docs/mlflow.md").read_text()
    settings = composed(dict.fromkeys(secrets_in_compose(), "x"))["services"]["mlflow"][
        "environment"
    ]
    for name in ("PGUSER", "PGDATABASE", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        assert f"{name}={settings[name]}" in page
    assert f"--backend-store-uri {settings['MLFLOW_BACKEND_STORE_URI']}" in page
    assert "mlflow server --app-name basic-auth" in page


def secrets_in_compose():
    return re.findall(r"\$\{(\w+):\?", (FOLDER / "compose.yaml").read_text())


def test_secrets_do_not_travel_with_a_commit():
    assert "/.env" in (FOLDER / ".gitignore").read_text().split()
