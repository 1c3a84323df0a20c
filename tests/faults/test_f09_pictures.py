"""Pictures that vanish while a run reads them."""

import contextlib
import shutil
import time

import pytest

from mimray.data.sources import open_source
from tests.train.runs import start

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("loader", ["ray", "torch"])
def test_a_run_whose_pictures_vanish_ends_with_a_line_that_names_one(tmp_path, loader):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k, data in enumerate(open_source("builtin:photos/train").read(range(200))):
        (pictures / f"{k:03}.jpg").write_bytes(data)
    words = [
        *(f"data.train={pictures}", "schedule.length=5000it", "schedule.warmup=0it"),
        *("optim.batch=8", "run.log_every=1it", f"speed.loader={loader}"),
    ]
    process = start(tmp_path, *words)
    try:
        rows, deadline = tmp_path / "runs/run/metrics.jsonl", time.monotonic() + 120
        while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        shutil.rmtree(pictures)
        _, said = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 3, said
    last = said.strip().splitlines()[-1]
    assert str(pictures) in last and "cannot be read any more" in last, said
    assert "Traceback" not in said
