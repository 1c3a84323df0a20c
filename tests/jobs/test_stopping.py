"""A job that is asked to stop ends by itself in seconds, with 75: submitting it again goes on."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.cluster.clusters import REPOSITORY
from tests.evaluate.test_checkpoint import weights_file
from tests.faults.harness import cmdline, family
from tests.study.scaling import tiny
from tests.train.finetuning import TINY as FINETUNING
from tests.train.runs import TINY, environment

pytestmark = pytest.mark.slow  # real processes, a Ray each: two minutes
GRACE = 30.0
PHOTOS = ["--data", "builtin:photos/train"]
STUDY = "  speed.workers: 1\nencoders: [vit_nano]\nsubsets: [100%]\nlengths: [100000]\n"
SWEEP = "  speed.workers: 1\n  schedule.length: 100000it\ngrid: {mask.ratio: [0.4, 0.6]}\n"


@dataclass
class Started:
    """A job's driver under way."""

    process: subprocess.Popen
    folder: Path

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def says(self, words: str) -> bool:
        return words in self.said

    def computes(self, task: str) -> bool:
        """Whether one of Ray's tasks of that name is at work."""
        return any(f"ray::{task}".encode() in cmdline(p) for p in family(self.process.pid))

    def wait_for(self, ready: Callable[[], object], seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert self.process.poll() is None, self.said[-3000:]
            assert time.monotonic() < deadline, self.said[-3000:]
            time.sleep(0.05)


@contextlib.contextmanager
def started(folder: Path, name: str, *words: str) -> Iterator[Started]:
    """`python jobs/NAME.py WORDS` with a Ray of its own; gone afterwards, with all that it started."""
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "jobs" / f"{name}.py"), *words],
        env=environment(MIMRAY_HOME=str(folder)),
        cwd=folder,
        stdout=(folder / "said").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Started(process, folder)
    finally:
        for pid in family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def heeds(pid: int) -> bool:
    """Whether a process has a handler of SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(
        next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16
    )
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def assert_stops(job: Started, asks: signal.Signals = signal.SIGTERM) -> None:
    asked = time.monotonic()
    job.process.send_signal(asks)
    status = job.process.wait(2 * GRACE)
    assert (status, "Traceback" in job.said) == (75, False), job.said[-3000:]
    assert time.monotonic() - asked < GRACE
    assert job.says("mimray: stopped"), job.said[-3000:]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    """An encoder that needs minutes for the photos."""
    torch.manual_seed(0)
    return weights_file(tmp_path_factory.mktemp("weights") / "encoder", "vit_small", 224)


def test_before_ray_has_started(tmp_path):
    with started(tmp_path, "pretrain", "demo", *TINY) as job:
        job.wait_for(lambda: b"pretrain.py" in cmdline(job.process.pid), 10)
        job.wait_for(lambda: heeds(job.process.pid))
        assert_stops(job)
    assert not (tmp_path / "runs").exists(), "a folder of a run that never began"


@pytest.mark.parametrize("asks", [signal.SIGTERM, signal.SIGINT])
def test_pretraining(tmp_path, asks):
    words = ["demo", *TINY, "schedule.length=100000it", "run.name=run"]
    with started(tmp_path, "pretrain", *words) as job:
        job.wait_for((tmp_path / "runs/run/metrics.jsonl").exists)
        assert_stops(job, asks)
    assert list((tmp_path / "runs/run/checkpoints").glob("*/manifest.json"))


def test_finetuning(tmp_path):
    words = [
        "finetune_demo",
        "--from=scratch",
        *FINETUNING,
        "schedule.length=100000it",
        "run.name=run",
    ]
    with started(tmp_path, "finetune", *words) as job:
        job.wait_for((tmp_path / "runs/run/metrics.jsonl").exists)
        assert_stops(job)
    assert list((tmp_path / "runs/run/checkpoints").glob("*/manifest.json"))


def test_a_study_keeps_its_table_and_checkpoints(tmp_path):
    (tmp_path / "long.yaml").write_text(tiny.STUDY + STUDY)
    with started(tmp_path, "scaling_study", str(tmp_path / "long.yaml")) as job:
        job.wait_for(lambda: list(tmp_path.glob("runs/long-*/metrics.jsonl")))
        assert_stops(job)
    assert list(tmp_path.glob("runs/long-*/checkpoints/*/manifest.json"))
    assert (tmp_path / "runs/studies/long/table.csv").is_file()


def test_a_sweep_keeps_its_table(tmp_path):
    (tmp_path / "long.yaml").write_text(
        tiny.STUDY + SWEEP + "reference_mask: {unit: 8, ratio: 0.5}\n"
    )
    with started(tmp_path, "sweep", str(tmp_path / "long.yaml")) as job:
        job.wait_for(lambda: list(tmp_path.glob("runs/long-*/metrics.jsonl")))
        assert_stops(job)
    assert (tmp_path / "runs/sweeps/long/table.csv").is_file()


def test_an_analysis_keeps_its_shards(tmp_path, weights):
    words = [
        "attention",
        f"--from={weights}",
        *PHOTOS,
        "--image-size=224",
        "--images=800",
        "--batch=16",
    ]
    with started(tmp_path, "analyze", *words) as job:
        job.wait_for(lambda: list(tmp_path.glob("runs/analyses/*/shards/*.pt")))
        assert_stops(job)
    assert list(tmp_path.glob("runs/analyses/*/shards/*.pt"))


def test_an_evaluation(tmp_path, weights):
    words = ["knn", f"--from={weights}", *PHOTOS, "--val=builtin:photos/val", "--image-size=224"]
    with started(tmp_path, "evaluate", *words) as job:
        job.wait_for(lambda: job.computes("_compute"))
        assert_stops(job)


def test_a_preparation_keeps_its_shards(tmp_path):
    words = ["builtin:photos/train", f"{tmp_path}/out", "--shorter-side=90", "--rows-per-shard=4"]
    with started(tmp_path, "prepare", *words) as job:
        job.wait_for(lambda: list((tmp_path / "out").rglob("*.parquet")))
        assert_stops(job)
    assert list((tmp_path / "out").rglob("*.parquet"))


def test_a_clustering_leaves_nothing(tmp_path):
    words = ["builtin:photos/train", f"--out={tmp_path}/centres", "--patch=8", "--clusters=8192"]
    with started(tmp_path, "clusters", *words) as job:
        job.wait_for(lambda: job.says("clustering"))
        assert_stops(job)
    assert not (tmp_path / "centres").exists()
