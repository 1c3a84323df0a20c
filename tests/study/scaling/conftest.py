"""A study of which one cell has been through all its steps, in this process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimray.study.scaling.cells import load_study
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.plan import open_study
from mimray.study.scaling.runners import Runner, Work
from tests.study.scaling.tiny import DRAWINGS, HERE, PLACE


class Study:
    """`told`: what each step of `cell` said; `other` has not begun."""

    def __init__(self, folder: Path) -> None:
        (folder / "tiny.yaml").write_text(HERE)
        self.laid = load_study(str(folder / "tiny.yaml"), [f"run.storage={folder / 'runs'}"])
        self.folder = StudyFolder(self.laid)
        self.steps = open_study(self.laid, self.folder)
        self.cell, self.other = self.laid.cells
        self.folder.begin()
        self.runner = Runner(str(folder))
        self.told = [self.runner.run(Work(self.cell, s, PLACE), DRAWINGS) for s in self.steps]


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """For reading alone; see `folder`."""
    with contextlib.chdir(Path.cwd()):  # its runner goes into the study's folder
        return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def folder(study: Study) -> Iterator[StudyFolder]:
    """Its notes, to be written for the time of a test."""
    yield StudyFolder(study.laid)
    study.folder.save()
