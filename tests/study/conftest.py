"""Runners and trials work in the folder that their study was started from."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="module")
def back_where_the_tests_began() -> Iterator[None]:
    with contextlib.chdir(Path.cwd()):
        yield
