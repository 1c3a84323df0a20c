"""A study on two raylets, of which one dies."""

import json
import subprocess
import sys
import time

import pytest

from tests.study.scaling import tiny
from tests.train.local_ray import join, local_ray
from tests.train.runs import environment

pytestmark = pytest.mark.slow

STUDY = (
    tiny.STUDY
    + """\
  run.checkpoint_every: 5%
  run.tracking: "off"
  speed.workers: 1
  speed.device: cpu
  speed.cpus_per_worker: 1
encoders: [vit_nano]
subsets: {photos 25%: 25%, photos 50%: 50%, photos 75%: 75%, photos 100%: 100%}
lengths: [400]
"""
)


def records(folder):
    found = [json.loads(file.read_text()) for file in (folder / "runs").glob("tiny-*/run.json")]
    return {record["name"]: record for record in found}


@pytest.mark.long
def test_what_ran_on_a_lost_host_and_what_comes_after_goes_to_the_others(tmp_path):
    """The host that dies is the larger one, so the freest by what was known before."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    with local_ray(cpus=1) as cluster:
        node = join(cluster, cpus=2)
        study = subprocess.Popen(
            [
                *(sys.executable, "-m", "mimray.cli", "study", "run", str(tmp_path / "tiny.yaml")),
                *(f"run.storage={tmp_path}/runs", "--json"),
            ],
            env=environment(
                **{name: cluster.env[name] for name in ("HOME", "PATH", "RAY_AUTH_MODE")},
                RAY_ADDRESS=cluster.env["RAY_TEST_GCS"],
            ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 600
        while sum(bool(r["steps"]) for r in records(tmp_path).values()) < 3:
            assert study.poll() is None, study.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = records(tmp_path)
        assert len(before) == 3 and {r["status"] for r in before.values()} == {"running"}
        node.kill()
        out, err = study.communicate(timeout=900)
    assert study.returncode == 0, err
    result = json.loads(out.strip().splitlines()[-1])  # before it Ray tells of the host, in words
    assert [row["status"] for row in result["cells"]] == ["finished"] * 4
    after = records(tmp_path)
    again = [after[name]["starts"][1:] for name in before]
    assert sorted(map(len, again)) == [0, 1, 1]  # those of the host that died, once more
    assert all(starts[0]["step"] > 0 for starts in again if starts)
