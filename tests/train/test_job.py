"""`ray job submit` of a pre-training to a Ray that asks for a token."""

import zipfile

import pytest
from mlflow import MlflowClient

from tests.train.local_ray import REPOSITORY, Cluster, Job, local_ray
from tests.train.runs import TINY, Finished

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    with local_ray(cpus=2) as started:
        yield started


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory) -> tuple[Job, Finished]:
    """The file's one training, with a variable that mimray sets too among the job's own."""
    folder = tmp_path_factory.mktemp("job")
    job = cluster.submit(
        *("demo", *TINY, "speed.workers=2", f"run.storage={folder}/runs", "run.name=job"),
        options=("--runtime-env-json", '{"env_vars": {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}}'),
    )
    return job, Finished(job.status, job.said, "", folder / "runs" / "job")


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
    assert package.stat().st_size < 5_000_000
    assert {"jobs/pretrain.py", "mimray/cli.py", "mimray/recipes/demo.yaml"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", ".venv/", ".git/", "runs/"))]
