"""What the fault tests compare with, made once."""

import pytest

from tests.faults.harness import undisturbed


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    """Number of trainers -> the run that nothing happens to."""
    known: dict[int, tuple] = {}

    def reference(workers: int) -> tuple:
        if workers not in known:
            known[workers] = undisturbed(tmp_path_factory.mktemp("undisturbed"), workers)
        return known[workers]

    return reference


@pytest.fixture
def reference(references):
    """With two trainers."""
    return references(2)
