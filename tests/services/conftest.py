"""Real services on loopback, one of each for all tests; without one its tests say that they are skipped."""

import shutil

import pytest

from tests.data import test_s3
from tests.services.postgres import Postgres, binaries
from tests.services.team import Team

server = test_s3.server  # of the S3 protocol, with a bucket


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL with an empty database."""
    place = binaries()
    if place is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    database = Postgres.make(place)
    yield database
    database.stop()
    shutil.rmtree(database.folder)


@pytest.fixture(scope="session")
def team(postgres, server, tmp_path_factory):
    """A team's MLflow over it and an object store."""
    team = Team(tmp_path_factory.mktemp("team"), postgres, server)
    team.start()
    yield team
    team.kill()
