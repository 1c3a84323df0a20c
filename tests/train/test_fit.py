"""When groups of trainers are started again, with what, and how a run ends: no Ray is needed for that."""

import threading
from types import SimpleNamespace

import pytest

from mimray.errors import RunFailed
from mimray.recipe import load_recipe
from mimray.train import trainer
from mimray.train.resources import Layout, Node
from mimray.train.trainer import Fit

pytestmark = pytest.mark.unit


class Remote:
    """A mailbox's methods as an actor's handle has them."""

    def __init__(self):
        self.failed = False
        for name in ("admit", "request_stop", "has_failed"):
            setattr(self, name, SimpleNamespace(remote=lambda *_, name=name: self.answer(name)))

    def answer(self, name):
        return self.failed if name == "has_failed" else None


@pytest.fixture
def fit(monkeypatch):
    """A Fit whose groups end as told, one after the other: a status, or an exception."""
    monkeypatch.setattr(trainer.ray, "get", lambda value: value)
    monkeypatch.setattr(trainer.checkpoint, "verified", lambda run: None)
    monkeypatch.setattr(trainer.checkpoint, "newest", lambda run: None)
    monkeypatch.setattr(trainer, "cluster_nodes", lambda: [Node("a", 2.0, 0.0)])

    def make(*ends, gpu=False, words=()):
        recipe = load_recipe("demo", ["speed.workers=1", *words])
        job = SimpleNamespace(
            recipe=recipe,
            run=SimpleNamespace(token="1"),
            mailbox=Remote(),
            workers=0,
            micro_batch=4,
        )
        made = Fit(job, Layout(1, gpu, 1.0), SimpleNamespace(renew=lambda: None))
        left, made.layouts = list(ends), []

        def build(job, layout):
            made.layouts.append(layout)
            return SimpleNamespace(fit=end)

        def end():
            now = left.pop(0)
            now = now(made) if callable(now) else now
            if isinstance(now, Exception):
                raise now
            return SimpleNamespace(return_value={"status": now})

        monkeypatch.setattr(trainer, "build_trainer", build)
        return made

    return make


@pytest.mark.parametrize(
    ("ends", "outcome", "groups"),
    [
        (["finished"], "finished", 1),
        (["stopped"], "stopped", 1),
        (["preempted", "finished"], "finished", 2),
        ([ValueError("died"), "finished"], "finished", 2),
    ],
)
def test_what_follows_a_group(fit, ends, outcome, groups):
    made = fit(*ends)
    made.run()
    assert made.outcome() == outcome and made.ended == groups


def test_it_is_not_tried_for_ever(fit):
    made = fit(*[ValueError("died")] * 9, words=["run.restarts=2"])
    made.run()
    assert made.ended == 3
    with pytest.raises(RunFailed, match="the trainers failed: died"):
        made.outcome()


def asked_to_stop(then):
    def end(made):
        made.last.set()
        return then

    return end


@pytest.mark.parametrize("then", ["stopped", "preempted", ValueError("died while it stopped")])
def test_who_was_asked_to_stop_has_stopped(fit, then):
    made = fit(asked_to_stop(then))
    made.run()
    assert made.outcome() == "stopped" and made.ended == 1


def test_a_stop_while_there_is_no_room_is_a_stop(fit, monkeypatch):
    made = fit(ValueError("died"), "finished")
    monkeypatch.setattr(trainer, "cluster_nodes", lambda: [Node("a", 0.0, 0.0)])
    threading.Timer(0.7, made.last.set).start()
    made.run()
    assert made.outcome() == "stopped" and made.ended == 1


@pytest.mark.parametrize("workers", ["1", "[1, 4]"])
def test_gpus_that_are_not_given_back_yet_are_waited_for(fit, monkeypatch, workers):
    looks = [[Node("a", 15.0, 0.0)]] * 2 + [[Node("a", 16.0, 4.0)]] * 9
    monkeypatch.setattr(trainer, "cluster_nodes", lambda: looks.pop(0))
    made = fit(ValueError("died"), "finished", gpu=True, words=[f"speed.workers={workers}"])
    made.run()
    assert made.outcome() == "finished"
    assert [layout.use_gpu for layout in made.layouts] == [True, True]


def test_storage_that_fails_between_two_groups_ends_the_run_in_words(fit, monkeypatch):
    def broken(run):
        raise OSError(5, "Input/output error")

    made = fit("finished")
    monkeypatch.setattr(trainer.checkpoint, "verified", broken)
    made.run()
    with pytest.raises(RunFailed, match="Input/output error"):
        made.outcome()
