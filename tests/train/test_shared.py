"""What a host says when it is asked whether it has all that a run needs."""

import pytest

from mimray.data.sources import open_source
from mimray.train.shared import _look

pytestmark = pytest.mark.unit

look = _look._function  # what the task does, without Ray


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.seen").touch()
    (tmp_path / "codes.bin").touch()
    return tmp_path


def ask(run, folder="run", file="codes.bin"):
    sources = [open_source("builtin:photos/val", "val")]
    return look(str(run / folder), ".seen", sources, [str(run / file)])


def test_a_host_that_has_everything_says_nothing(run):
    assert ask(run) is None


@pytest.mark.parametrize(
    ("lacks", "says"),
    [
        ({"folder": "other"}, "does not see run.storage"),
        ({"file": "other.bin"}, "other.bin; put it on a path that all hosts share"),
    ],
)
def test_what_a_host_lacks_is_named(run, lacks, says):
    answer = ask(run, **lacks)
    assert says in answer and "\n" not in answer
