"""Sweeps of a small model, from the text of their files."""

import pytest

from mimray.study.sweeps.grid import load_sweep
from tests.study.sweeps.small import SMALL


@pytest.fixture
def lay_out(tmp_path):
    def load(text, *overrides, head=f"recipe: demo\n{SMALL}"):
        file = tmp_path / "tiny.yaml"
        file.write_text(head + text)
        return load_sweep(str(file), [f"run.storage={tmp_path / 'runs'}", *overrides])

    return load
