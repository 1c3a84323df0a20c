"""MLflow's copy of a run: complete, once and in order, whatever happens, and nobody waits for it."""

import threading
import time
import tracemalloc
from types import SimpleNamespace

import pytest

from mimray.errors import RunFailed, UserError
from mimray.tracking import Copy
from mimray.train import tracker as tracking
from mimray.train.clerk import Clerk
from mimray.train.fence import Fence
from mimray.train.spool import head_of, rows_after
from mimray.train.sync import Synced, deliver_earlier_runs, sync
from mimray.train.tracker import Tracker
from tests.train.tracked import Store, assert_whole, make_run, row

pytestmark = pytest.mark.unit
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(tracking, "_RETRY_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def uri_of(store: Store) -> str:
    return f"sqlite:///{store.file}"


def track(run, run_id=None) -> Tracker:
    return Tracker(run, head_of(run, run.record()), run_id)


def write(run, tracker, rows) -> None:
    run.append_rows(rows)
    tracker.rows(rows)


class Noted(dict):
    """A record that is not written."""

    def note_start(self, start):
        self["start"] = start


class TestTracker:
    def test_rows_arrive_once_across_two_starts_and_odd_values_are_counted(self, tmp_path, store):
        run = make_run(tmp_path / "run", uri_of(store))
        first = track(run)
        write(run, first, [row(1), row(2)])
        write(run, first, [row(3, **{"train/loss": float("nan")})])
        assert first.finish("stopped")
        assert store.runs("uid-of-run") == [(first.run_id, "KILLED")]
        again = track(run, first.run_id)
        again.rows(run.rows())
        write(run, again, [row(4)])
        assert again.finish("finished")
        assert_whole(store, run, "FINISHED")
        tags = dict(store._ask("select key, value from tags where run_uuid = ?", first.run_id))
        assert tags["mimray.not_finite"] == "1"

    def test_rows_that_died_with_their_trainer_s_mail_are_sent_from_the_folder(
        self, tmp_path, store
    ):
        run = make_run(tmp_path / "run", uri_of(store))
        tracker = track(run)
        write(run, tracker, [row(1)])
        run.append_rows([row(2)])  # the row of a checkpoint's step, whose trainer was killed
        Clerk(SimpleNamespace(run=run), Noted(), tracker, None).take([{"kind": "start", "step": 2}])
        write(run, tracker, [row(3)])
        assert tracker.finish("finished")
        run.write_record(run.record() | {"status": "finished"})
        assert_whole(store, run, "FINISHED")

    def test_steps_that_are_trained_again_are_not_sent_again(self, tmp_path, store):
        run = make_run(tmp_path / "run", uri_of(store), "finished")
        run.append_rows([row(k) for k in (1, 2, 3, 4)])
        copy = Copy(head_of(run, run.record()), None)
        again = [row(k, time=1.8e9 + k, attempt=1) for k in (2, 3)]
        assert copy.rows([row(1), row(2), row(3), *again, row(4)]) == 4
        assert copy.rows([*again, row(4)]) == 0
        sync(run)
        assert_whole(store, run, "FINISHED")

    def test_rows_of_an_earlier_start_wait_for_the_server_too(self, tmp_path, store, monkeypatch):
        run = make_run(tmp_path / "run", uri_of(store))
        run.append_rows([row(1), row(2)])
        failures = iter([ConnectionError("away")])

        class IllCopy(Copy):
            def rows(self, rows):
                for error in failures:
                    raise error
                return super().rows(rows)

        monkeypatch.setattr(tracking, "Copy", IllCopy)
        tracker = track(run)
        write(run, tracker, [row(3)])
        assert tracker.finish("finished")
        assert_whole(store, run, "FINISHED")

    def test_a_run_that_somebody_deleted_in_mlflow_is_created_anew(self, tmp_path, store):
        from mlflow import MlflowClient

        run = make_run(tmp_path / "run", uri_of(store))
        first = track(run)
        write(run, first, [row(1)])
        assert first.finish("failed")
        MlflowClient(uri_of(store)).delete_run(first.run_id)
        for known in (first.run_id, "0123456789abcdef0123456789abcdef"):
            again = track(run, known)
            assert again.finish("failed")
            assert again.run_id != known
            assert_whole(store, run, "FAILED")

    def test_a_run_whose_id_was_never_heard_of_is_found_by_its_uid(self, tmp_path, store):
        run = make_run(tmp_path / "run", uri_of(store))
        assert track(run).finish("failed")
        assert track(run).finish("finished")
        assert_whole(store, run, "FINISHED")

    def test_what_cannot_be_uploaded_costs_no_metrics_and_is_owed(self, tmp_path, store):
        from mlflow import MlflowClient

        run = make_run(tmp_path / "run", uri_of(store))
        (tmp_path / "file").touch()
        MlflowClient(uri_of(store)).create_experiment(
            "mimray", (tmp_path / "file" / "under").as_uri()
        )
        tracker = track(run)
        write(run, tracker, [row(1)])
        assert tracker.finish("finished") is False
        assert_whole(store, run, "FINISHED")
        (tmp_path / "file").unlink()
        sync(run)
        assert run.record()["mlflow_pending"] is False
        assert list(tmp_path.glob("file/under/*/artifacts/recipe.yaml"))

    @pytest.mark.parametrize("ill", ["away", "slow"])
    def test_rows_beyond_what_waits_in_memory_come_from_the_folder(
        self, tmp_path, store, monkeypatch, ill
    ):
        monkeypatch.setattr(tracking, "_ROWS_WAITING", 50)
        well = threading.Event()

        class IllCopy(Copy):
            def rows(self, rows):
                if ill == "away" and not well.is_set():
                    raise ConnectionError("away")
                sent = super().rows(rows)
                well.wait()
                return sent

        monkeypatch.setattr(tracking, "Copy", IllCopy)
        run = make_run(tmp_path / "run", uri_of(store))
        tracker = track(run)
        for start in range(1, 500, 10):
            write(run, tracker, [row(k) for k in range(start, start + 10)])
            while ill == "slow" and tracker.run_id is None:
                time.sleep(0.01)  # it is connected, and has read the folder
        well.set()
        assert tracker.finish("finished")
        assert_whole(store, run, "FINISHED")

    def test_a_server_that_is_away_costs_neither_time_nor_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tracking, "_LAST_WORDS_SECONDS", 0.5)
        run = make_run(tmp_path / "run", NOWHERE)
        tracker = track(run)
        tracker.rows([row(k) for k in range(1, 10_001)])
        time.sleep(2)  # MLflow's client is imported, and has failed
        tracemalloc.start()
        slowest = 0.0
        for k in range(10_001, 40_001):
            began = time.perf_counter()
            tracker.rows([row(k)])
            tracker.picture(bytes(100_000), "key", k)
            slowest = max(slowest, time.perf_counter() - began)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert tracker.finish("finished") is False
        assert grown < 20 * 2**20
        assert slowest < 0.5

    def test_off_is_off(self, tmp_path):
        run = make_run(tmp_path / "run", "off")
        tracker = track(run)
        write(run, tracker, [row(1)])
        assert tracker.finish("finished")
        assert tracker.run_id is None
        assert sync(run) == Synced("run", "running", 0)


class TestSync:
    def test_a_run_that_mlflow_never_saw_with_the_status_of_its_record(self, tmp_path, store):
        for status, shown in (
            ("finished", "FINISHED"),
            ("failed", "FAILED"),
            ("running", "KILLED"),
        ):
            run = make_run(tmp_path / status, uri_of(store), status)
            run.append_rows([row(k) for k in range(1, 400)])
            run.write("figures/loss.png", b"png")
            assert sync(run) == Synced(status, status, 399)
            assert_whole(store, run, shown)
            ((run_id, _),) = store.runs(f"uid-of-{status}")
            assert run.record()["mlflow_run_id"] == run_id
            assert (tmp_path / f"mlartifacts/{run_id}/artifacts/figures/loss.png").exists()
            assert sync(run) == Synced(status, status, 0)
            assert_whole(store, run, shown)
            times = store._ask("select start_time, end_time from runs where run_uuid = ?", run_id)
            assert times == [(1_700_000_000_000, 1_700_000_399_125)]

    def test_a_run_that_is_being_trained_is_left_alone(self, tmp_path, store):
        run = make_run(tmp_path / "run", uri_of(store))
        fence = Fence(run)
        fence.claim()
        with pytest.raises(UserError, match="is being trained by process"):
            sync(make_again(run))
        fence.release()
        sync(make_again(run))

    def test_a_server_that_is_away_is_one_line_and_the_run_stays_owed(self, tmp_path):
        run = make_run(tmp_path / "run", NOWHERE, "finished")
        with pytest.raises(RunFailed, match=r"MLflow at http://127\.0\.0\.1:9: "):
            sync(run)
        assert run.record()["mlflow_pending"] is True

    def test_the_next_start_of_another_run_delivers_what_ended(self, tmp_path, store):
        runs = {
            name: make_run(tmp_path / "runs" / name, uri, status)
            for name, uri, status in (
                ("ended", uri_of(store), "finished"),
                ("other", f"sqlite:///{tmp_path}/other.db", "finished"),
                ("perhaps-going-on", uri_of(store), "running"),
            )
        }
        (tmp_path / "runs" / "no-run").mkdir()
        deliver_earlier_runs(runs["perhaps-going-on"], uri_of(store)).join()
        assert_whole(store, runs["ended"], "FINISHED")
        pending = {name: run.record()["mlflow_pending"] for name, run in runs.items()}
        assert pending == {"ended": False, "other": True, "perhaps-going-on": True}


def make_again(run):
    """The same folder, as another process has it."""
    return type(run)(run.uri)


def test_rows_are_read_one_by_one_without_a_torn_last_one(tmp_path):
    run = make_run(tmp_path / "run", "off")
    assert list(rows_after(run, -1)) == []
    run.append_rows([row(k) for k in (1, 2, 3)])
    with open(run.file("metrics.jsonl"), "ab") as file:
        file.write(b'{"step": 4, "tra')
    assert [one["step"] for one in rows_after(run, 1)] == [2, 3]
