"""`ray job submit` of a pre-training to a Ray that asks for a token."""

import contextlib
import re
import threading
import urllib.request
import zipfile
from collections.abc import Iterator

import pytest
from mlflow import MlflowClient

from tests.train.local_ray import REPOSITORY, Cluster, Job, local_ray
from tests.train.runs import TINY, Finished

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    with local_ray(cpus=2, RAY_metrics_report_interval_ms="1000") as started:
        yield started


@contextlib.contextmanager
def scraped(url: str) -> Iterator[dict[str, dict[str, float]]]:
    """Newest values by run and metric, read as Prometheus does: Ray forgets them when their driver ends."""
    found: dict[str, dict[str, float]] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as page:
                for line in page.read().decode().splitlines():
                    if line.startswith("ray_mimray_"):
                        name, tags, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
                        run = re.search(r'\brun="([^"]*)"', tags)[1]
                        found.setdefault(run, {})[name] = float(value)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        over.set()
        looking.join()


@pytest.fixture(scope="module")
def watched(cluster, tmp_path_factory) -> tuple[Job, Finished, dict]:
    """The file's one training, with a variable that mimray sets too among its own, and its metrics."""
    folder = tmp_path_factory.mktemp("job")
    with scraped(cluster.env["RAY_TEST_METRICS"]) as metrics:
        job = cluster.submit(
            *("demo", *TINY, "speed.workers=2", f"run.storage={folder}/runs", "run.name=job"),
            options=("--runtime-env-json", '{"env_vars": {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}}'),
        )
    return job, Finished(job.status, job.said, "", folder / "runs" / "job"), metrics


@pytest.fixture(scope="module")
def submitted(watched) -> tuple[Job, Finished]:
    return watched[:2]


def test_two_trainers_and_the_data_fit_two_cpus(submitted):
    job, run = submitted
    assert job.status == 0, job.said
    assert (job.info["status"], job.info["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert (run.record["status"], run.record["steps"]) == ("finished", 12)
    assert [len(start["hosts"]) for start in run.record["starts"]] == [2]
    assert "Ray on 1 host(s): 2 CPU trainer(s)" in job.said


def test_tracking_lies_in_the_home_by_default_not_in_the_upload(cluster, submitted):
    _, run = submitted
    client = MlflowClient(f"sqlite:///{cluster.env['HOME']}/mimray/mlflow.db")
    assert client.get_run(run.record["mlflow_run_id"]).info.status == "FINISHED"


def test_prometheus_finds_the_run_at_rays_metrics(watched):
    _, run, metrics = watched
    assert list(metrics) == ["job"]
    told = metrics["job"]
    assert {"ray_mimray_images_per_second", "ray_mimray_data_wait_ratio"} <= told.keys()
    losses = [row["train/loss"] for row in run.rows]
    assert any(told["ray_mimray_train_loss"] == pytest.approx(loss) for loss in losses)
    assert 1 <= told["ray_mimray_step"] <= 12


def test_wrong_input_is_the_drivers_exit_status(cluster):
    job = cluster.submit("demo", "mask.ratioo=1")
    assert job.status == 1  # Ray's own command knows no other
    assert (job.info["status"], job.info["driver_exit_code"]) == ("FAILED", 2)
    assert "mimray: mask.ratioo is not a setting; did you mean mask.ratio" in job.said


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("0" * 64, 403)])
def test_a_job_without_the_token_is_refused(cluster, token, status):
    assert cluster.http("/api/jobs/", token, body={"entrypoint": "true"})[0] == status


def test_the_upload_is_the_code_and_small(tmp_path):
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    create_package(str(REPOSITORY), package, include_gitignore=True)
    names = zipfile.ZipFile(package).namelist()
    assert package.stat().st_size < 5_000_000, "Ray packs without compression"
    assert {"jobs/pretrain.py", "mimray/cli.py", "mimray/recipes/demo.yaml"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", ".venv/", ".git/", "runs/"))]
