"""The order of steps, with processes that do as they are told."""

import threading
from types import SimpleNamespace

import pytest

from mimray.evaluate.workers import Share
from mimray.study.scaling.account import Account, Need
from mimray.study.scaling.runners import Actor, Host
from mimray.study.scaling.schedule import Schedule, Waiting
from mimray.train.resources import Layout, Node

pytestmark = pytest.mark.unit

SMALL, BIG = Need(Share(1)), Need(Share(0), Layout(3, False, 1.0))


class FakeStep:
    """Finished once it has run, unless it is told to fail or to lose its process."""

    def __init__(self, name, log, answers=()):
        self.name, self.log, self.answers = name, log, list(answers)
        self.done = set()

    def values(self, cell):
        return {} if cell.name in self.done else None

    def training(self, cell):
        return None


class FakeRunners:
    """Ends one step a look, the oldest first."""

    def __init__(self, cpus):
        self.hosts = [Host("h", Node("h", cpus, 0))]
        self.log, self.ended_actors, self.works, self.most = [], [], {}, 0

    def warm(self, share):
        return None

    def start(self, work, host):
        reference = len(self.log)
        self.log.append((work.cell.name, work.step.name))
        self.works[reference] = work
        return reference, Actor(None, None, host, work.place.share, busy=True)

    def ended(self, references, seconds):
        self.most = max(self.most, len(references))
        return references[:1]

    def answer(self, reference):
        work = self.works[reference]
        answer = work.step.answers.pop(0) if work.step.answers else None
        if answer == "lost":
            return None, True
        if answer is None:
            work.step.done.add(work.cell.name)
        return answer, False

    def lost(self, actor):
        self.ended_actors.append(actor)


class Heard:
    def __init__(self):
        self.lines = []

    def begun(self, cell, step):
        pass

    def ended(self, cell, step, reason):
        self.lines.append((cell.name, step.name, reason))


def cell(name):
    speed = SimpleNamespace(placement="spread")
    return SimpleNamespace(name=name, recipe=SimpleNamespace(speed=speed))


def run(waiting, cpus, need=lambda cell, step: SMALL):
    runners, heard = FakeRunners(cpus), Heard()
    account = Account([host.node for host in runners.hosts])
    Schedule(waiting, account, runners, need, heard).run(threading.Event())
    assert account.free == account.hosts  # all is given back
    return runners, heard


def test_the_longest_cell_goes_first_and_a_begun_one_goes_on():
    steps = (FakeStep("train", []), FakeStep("losses", []))
    waiting = [Waiting(cell(name), steps, hours) for name, hours in (("a", 1), ("b", 3), ("c", 2))]
    runners, heard = run(waiting, cpus=1)
    assert runners.log == [(n, s) for n in "bca" for s in ("train", "losses")]
    assert [reason for *_, reason in heard.lines] == [None] * 6


def test_as_many_at_once_as_have_room():
    step = FakeStep("train", [])
    runners, _ = run([Waiting(cell(str(n)), (step,), 1.0) for n in range(5)], cpus=2)
    assert runners.most == 2 and len(runners.log) == 5


def test_a_step_that_fails_leaves_the_other_cells_and_ends_its_own():
    steps = (FakeStep("train", [], ["the loss is not finite"]), FakeStep("losses", []))
    waiting = [Waiting(cell("a"), steps, 2.0), Waiting(cell("b"), steps, 1.0)]
    runners, heard = run(waiting, cpus=1)
    assert heard.lines[0] == ("a", "train", "the loss is not finite")
    assert runners.log == [("a", "train"), ("b", "train"), ("b", "losses")]


def test_a_lost_process_is_replaced_once():
    once, twice = (FakeStep("train", [], ["lost"] * n) for n in (1, 2))
    runners, heard = run([Waiting(cell("a"), (once,), 2), Waiting(cell("b"), (twice,), 1)], cpus=1)
    assert len(runners.ended_actors) == 3
    assert heard.lines[0] == ("a", "train", None)
    assert heard.lines[1][2].startswith("its process ended twice")


def test_a_record_that_is_not_seen_is_a_failure():
    step = FakeStep("train", [])
    step.done = frozenset()
    step.values = lambda cell: None
    step.done = set()
    _, heard = run([Waiting(cell("a"), (step,), 1)], cpus=1)
    assert "not seen here" in heard.lines[0][2]


def test_a_large_cell_is_not_kept_waiting_by_small_ones():
    step = FakeStep("train", [])
    waiting = [Waiting(cell("small0"), (step,), 9.0), Waiting(cell("big"), (step,), 5.0)]
    waiting += [Waiting(cell(f"small{n}"), (step,), 1.0) for n in range(1, 6)]
    needs = lambda cell, step: BIG if cell.name == "big" else SMALL  # noqa: E731
    runners, _ = run(waiting, cpus=4, need=needs)
    names = [name for name, _ in runners.log]
    assert names[:2] == ["small0", "big"] and len(names) == 7


def test_nothing_starts_once_somebody_asks_to_stop():
    runners = FakeRunners(1)
    runners.ask_to_stop = runners.wait = lambda things: None
    stopping = threading.Event()
    stopping.set()
    account = Account([host.node for host in runners.hosts])
    Schedule([Waiting(cell("a"), (FakeStep("x", []),), 1)], account, runners, None, Heard()).run(
        stopping
    )
    assert runners.log == []
