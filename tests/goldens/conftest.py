import pytest

from tests.goldens.golden import FOLDER, Golden


@pytest.fixture(scope="session")
def goldens():
    """`goldens(stem) -> Golden`: a file's inputs and results, read once."""
    read = {}

    def load(stem):
        if not (FOLDER / f"{stem}.json").exists():
            pytest.skip(f"{FOLDER} has no {stem}.json")
        return read.setdefault(stem, Golden(stem))

    return load
