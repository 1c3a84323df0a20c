"""An MLflow store for each test."""

import shutil
from pathlib import Path

import pytest

from tests.train.tracked import Store


@pytest.fixture(scope="session")
def empty(tmp_path_factory) -> Path:
    """A store without runs: MLflow takes its time to make one."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "m.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def store(tmp_path, empty) -> Store:
    return Store(Path(shutil.copy(empty, tmp_path / "m.db")))
