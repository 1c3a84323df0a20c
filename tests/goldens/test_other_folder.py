"""The tests of this folder on goldens of other sizes and with other cases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.goldens.derive import derive
from tests.goldens.golden import FOLDER

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.mark.skipif(FOLDER != HERE, reason="is run from the folder of goldens that lies here")
def test_every_size_is_read_from_the_files(tmp_path):
    derive(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(HERE)],
        env=os.environ | {"MIMRAY_GOLDENS": str(tmp_path)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert len(skipped) == 1, done.stdout  # this test
