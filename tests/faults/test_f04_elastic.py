"""F4: trainers come and go; the pictures of every position and the losses stay what they were."""

import subprocess

import pytest

from tests.faults.harness import Run, wait_until
from tests.train.local_ray import BIN, Node, alive, join, local_ray

pytestmark = [pytest.mark.faults, pytest.mark.long]

LENGTH = 240
SETTINGS = [
    *(f"schedule.length={LENGTH}it", "optim.batch=16", "speed.cpus_per_worker=1"),
    *("run.checkpoint_every=20it", "run.validate_every=120it"),
    "optim.lr=0.001",  # at the demo's 0.01 a step makes ten times as much of a rounding error
]


def on(cluster) -> dict[str, str]:
    """Environment of a driver that joins this Ray."""
    return {
        "RAY_ADDRESS": cluster.env["RAY_TEST_GCS"],
        "RAY_AUTH_MODE": "token",
        "HOME": cluster.env["HOME"],
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("undisturbed"), [*SETTINGS, "speed.workers=1"]).start()
    done = run.finish(400)
    assert done.status == 0, done.err
    return run, done


def compare(run: Run, done, reference) -> None:
    """Every step once, the same pictures, and losses that differ by rounding only."""
    assert done.status == 0, done.err[-3000:]
    expected = {row["step"]: row["train/loss"] for row in reference[1].rows}
    found = {row["step"]: row["train/loss"] for row in done.rows}
    assert list(found) == list(range(1, LENGTH + 1))
    whole = {p: set().union(*shares) for p, shares in reference[0].rows_of_positions().items()}
    seen = {p: set().union(*shares) for p, shares in run.rows_of_positions().items()}
    assert seen == whole
    # until two trainers share the batch, weights are the reference's, bit by bit
    change = next(s["step"] for s in done.record["starts"] if s["workers"] == 2)
    assert all(found[step] == expected[step] for step in range(1, change + 1))
    assert found[change + 1] == pytest.approx(expected[change + 1], rel=1e-6, abs=0)
    for step in range(change + 1, change + 21):
        assert found[step] == pytest.approx(expected[step], rel=1e-4, abs=0)


def grown(run: Run, cluster) -> tuple[Node, str]:
    """Start a run on one host, the driver's own, and let another join, which the run takes in: that one,
    and Ray's name of it."""
    run.start(**on(cluster)).wait_for_step(20)
    before = {node["node_id"] for node in alive(cluster)}
    node = join(cluster, 2)
    (joined,) = {n["node_id"] for n in alive(cluster)} - before
    wait_until(lambda: len(run.record().get("starts", [])) == 2, 150, run)
    run.wait_for_step(run.record()["steps"] + 20)
    return node, joined


def test_a_host_joins_and_is_lost(tmp_path, reference):
    run = Run(tmp_path, [*SETTINGS, "speed.workers=[1, 2]"])
    with local_ray(2, **run.environment) as cluster:
        node, _ = grown(run, cluster)
        node.kill()
        done = run.finish(400)
    workers = [start["workers"] for start in done.record["starts"]]
    # the second time two were laid out before Ray had noticed that the host is gone
    assert workers in ([1, 2, 1], [1, 2, 2, 1])
    compare(run, done, reference)


def test_a_host_is_about_to_be_taken_away(tmp_path, reference):
    """Ray's notice of preemption: a checkpoint at once, no step lost, and on with who is left."""
    run = Run(tmp_path, [*SETTINGS, "speed.workers=[1, 2]"])
    with local_ray(2, **run.environment) as cluster:
        node, leaving = grown(run, cluster)
        subprocess.run(
            [
                *(str(BIN / "ray"), "drain-node", f"--address={cluster.env['RAY_TEST_GCS']}"),
                *(f"--node-id={leaving}", "--reason=DRAIN_NODE_REASON_PREEMPTION"),
                *("--reason-message=test", "--deadline-remaining-seconds=60"),
            ],
            env=cluster.env,
            check=True,
            timeout=60,
        )
        wait_until(lambda: len(run.record().get("starts", [])) == 3, 60, run)
        node.kill()
        done = run.finish(400)
    starts = done.record["starts"]
    assert [start["workers"] for start in starts] == [1, 2, 1]
    attempts = [(row["step"], row["attempt"]) for row in done.rows]
    assert starts[2]["step"] == max(step for step, attempt in attempts if attempt == 1)
    compare(run, done, reference)
