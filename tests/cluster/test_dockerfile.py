"""Dockerfile and .dockerignore: what the image would hold, and as whom it runs."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.clusters import REPOSITORY
from tests.train.runs import environment

pytestmark = pytest.mark.unit
TEXT = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [
    tuple(line.split(maxsplit=1))
    for line in TEXT.splitlines()
    if line and not line.startswith(("#", " "))
]
IGNORED = (REPOSITORY / ".dockerignore").read_text().splitlines()
KEPT = [line[1:] for line in IGNORED if line.startswith("!")]


def of(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def test_every_line_is_an_instruction():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    assert {name for name, _ in STEPS} <= known


def test_both_stages_are_one_plain_pinned_image():
    images = [stage.split()[0] for stage in of("FROM")]
    assert len(images) == 2 and len(set(images)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", images[0]), "no registry, a full version"


def test_it_ends_as_a_user_without_rights():
    last = [name for name, _ in STEPS][-3:]
    assert last == ["WORKDIR", "USER", "CMD"]
    assert of("USER") == ["1000"] and "--uid 1000" in TEXT


def test_the_packages_are_those_of_the_lock():
    assert any("--requirement requirements.lock" in run for run in of("RUN"))
    assert any("--no-deps --editable ." in run for run in of("RUN"))
    assert re.search(r"uv==\d+\.\d+\.\d+", TEXT)


def test_what_is_copied_is_there():
    first = of("COPY")[0].split()[:-1]
    assert [file for file in first if not (REPOSITORY / file).is_file()] == []
    assert of("COPY")[1] == ". ."
    assert [path for path in KEPT if not (REPOSITORY / path).exists()] == []


def test_nothing_is_kept_that_is_not_named():
    assert next(line for line in IGNORED if line and not line.startswith(("#", "!"))) == "*"
    for secret in (".git", ".venv", "runs", ".env", "mlflow.db", "cluster"):
        assert not any(fnmatch.fnmatch(secret, path) for path in KEPT)


def test_what_is_kept_runs(tmp_path):
    """As the image's code: nothing of the checkout but what .dockerignore keeps."""
    skip = shutil.ignore_patterns("__pycache__")
    for path in KEPT:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / path).is_dir():
            shutil.copytree(REPOSITORY / path, target, ignore=skip)
        else:
            shutil.copy(REPOSITORY / path, target)
    code = "import mimray.cli as c; print(c.__file__); c.main(['recipe', 'list'])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(tmp_path)
    assert "\ndemo " in done.stdout
