"""The order of steps, with processes that do as they are told."""

import threading
from types import SimpleNamespace

import pytest

from mimray.errors import RunFailed
from mimray.evaluate.workers import Share
from mimray.study.scaling.account import Account, Need
from mimray.study.scaling.runners import Actor, Host
from mimray.study.scaling.schedule import Schedule, Waiting
from mimray.train.resources import Layout, Node

pytestmark = pytest.mark.unit
OOM = "1 worker(s) killed: OOM kill reason: Memory usage 24023597056B exceeded threshold of 24012685312B"

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
    """Ends one step a look, the oldest first. A step that answers `host lost` takes its host with it, and
    one that answers `host joins` brings another one of `cpus`."""

    def __init__(self, *cpus):
        self.hosts = [Host(str(n), Node(str(n), each, 0)) for n, each in enumerate(cpus)]
        self.log, self.ended_actors, self.works, self.most = [], [], {}, 0
        self.places, self.away, self.joining = [], set(), []

    def look(self):
        joined, self.joining = self.joining, []
        return self.away, joined

    def warm(self, share):
        return None

    def start(self, work, host):
        reference = len(self.log)
        self.log.append((work.cell.name, work.step.name))
        self.works[reference] = work
        self.places.append(host)
        return reference, Actor(None, None, host, work.place.share, busy=True)

    def ended(self, references, seconds):
        self.most = max(self.most, len(references))
        return references[:1]

    def answer(self, reference):
        work = self.works[reference]
        answer = work.step.answers.pop(0) if work.step.answers else None
        if answer == "host joins":
            self.joining.append(Node("b", 1, 0))
            answer = "lost"
        if answer == "host lost":
            self.away.add(self.places[reference])
            answer = "lost"
        if answer in ("lost", OOM):
            return answer, True
        if answer is None:
            work.step.done.add(work.cell.name)
        return answer, False

    def lost(self, actor):
        self.ended_actors.append(actor)


class Heard:
    def __init__(self):
        self.lines, self.interruptions = [], []

    def begun(self, cell, step):
        pass

    def interrupted(self, cell, step):
        self.interruptions.append(cell.name)

    def ended(self, cell, step, reason):
        self.lines.append((cell.name, step.name, reason))


def cell(name):
    speed = SimpleNamespace(placement="spread")
    values = {"model": name, "data": "photos", "iterations": 1}
    return SimpleNamespace(name=name, values=values, recipe=SimpleNamespace(speed=speed))


def run(waiting, *cpus, need=lambda cell, step: SMALL):
    runners, heard = FakeRunners(*cpus), Heard()
    account = Account([host.node for host in runners.hosts])
    Schedule(waiting, account, runners, need, heard).run(threading.Event())
    assert account.free == account.hosts  # all is given back
    return runners, heard


def test_the_longest_cell_goes_first_and_a_begun_one_goes_on():
    steps = (FakeStep("train", []), FakeStep("losses", []))
    waiting = [Waiting(cell(name), steps, hours) for name, hours in (("a", 1), ("b", 3), ("c", 2))]
    runners, heard = run(waiting, 1)
    assert runners.log == [(n, s) for n in "bca" for s in ("train", "losses")]
    assert [reason for *_, reason in heard.lines] == [None] * 6


def test_as_many_at_once_as_have_room():
    step = FakeStep("train", [])
    runners, _ = run([Waiting(cell(str(n)), (step,), 1.0) for n in range(5)], 2)
    assert runners.most == 2 and len(runners.log) == 5


def test_a_step_that_fails_leaves_the_other_cells_and_ends_its_own():
    steps = (FakeStep("train", [], ["the loss is not finite"]), FakeStep("losses", []))
    waiting = [Waiting(cell("a"), steps, 2.0), Waiting(cell("b"), steps, 1.0)]
    runners, heard = run(waiting, 1)
    assert heard.lines[0] == ("a", "train", "the loss is not finite")
    assert runners.log == [("a", "train"), ("b", "train"), ("b", "losses")]


def test_a_lost_process_is_replaced_once():
    once, twice = (FakeStep("train", [], ["lost"] * n) for n in (1, 2))
    runners, heard = run([Waiting(cell("a"), (once,), 2), Waiting(cell("b"), (twice,), 1)], 1)
    assert len(runners.ended_actors) == 3
    assert heard.lines[0] == ("a", "train", None)
    assert heard.lines[1][2].startswith("its process ended twice")
    assert heard.interruptions == ["a", "b"]


def test_a_process_that_ray_ended_for_lack_of_memory_is_said_to_be_so():
    step = FakeStep("train", [], [OOM] * 2)
    _, heard = run([Waiting(cell("a"), (step,), 1)], 1)
    assert "ran out of memory" in heard.lines[0][2]


def test_what_ran_on_a_lost_host_goes_on_elsewhere_however_often():
    """The first host is the freest, also once it is lost."""
    step = FakeStep("train", [], ["host lost", "host lost"])
    waiting = [Waiting(cell("a"), (step,), 2), Waiting(cell("b"), (FakeStep("x", []),), 1)]
    runners, heard = run(waiting, 8, 4, 2, need=lambda cell, step: Need(Share(2)))
    hosts = [runners.places[n] for n, (name, _) in enumerate(runners.log) if name == "a"]
    assert hosts == [0, 1, 2]
    assert [reason for *_, reason in heard.lines] == [None, None]
    assert heard.interruptions.count("a") == 2


def test_a_host_that_is_lost_does_not_count_as_an_attempt():
    step = FakeStep("train", [], ["lost", "host lost"])
    _, heard = run([Waiting(cell("a"), (step,), 1)], 2, 1)
    assert heard.lines == [("a", "train", None)]


def test_what_failed_on_a_lost_host_without_losing_its_process_goes_on():
    """As a run whose trainers were there, and whose own process was not."""
    step = FakeStep("train", [], ["its trainers are gone"])
    runners, heard = FakeRunners(2, 1), Heard()
    runners.away = set()
    look = runners.look
    runners.look = lambda: ({0} if runners.log else set(), look()[1])
    account = Account([host.node for host in runners.hosts])
    schedule = Schedule([Waiting(cell("a"), (step,), 1)], account, runners, lambda *_: SMALL, heard)
    schedule.run(threading.Event())
    assert runners.places == [0, 1] and heard.lines == [("a", "train", None)]


def test_where_no_host_is_left_with_room_the_study_ends_with_a_line():
    """What still has room goes first."""
    big, small = FakeStep("train", [], ["host lost"]), FakeStep("train", [])
    waiting = [Waiting(cell("big"), (big,), 2), Waiting(cell("small"), (small,), 1)]
    runners, heard = FakeRunners(4, 1), Heard()
    account = Account([host.node for host in runners.hosts])
    needs = lambda cell, step: Need(Share(2)) if cell.name == "big" else SMALL  # noqa: E731
    with pytest.raises(
        RunFailed, match=r"no room for big, .*, train \(2 CPUs .* 1 cell to go"
    ) as told:
        Schedule(waiting, account, runners, needs, heard).run(threading.Event())
    assert "\n" not in str(told.value)
    assert heard.lines == [("small", "train", None)]


def test_a_host_that_joins_is_used():
    step = FakeStep("train", [], ["host joins"])
    waiting = [Waiting(cell(name), (step,), hours) for name, hours in (("a", 2), ("b", 1))]
    runners, heard = FakeRunners(1), Heard()
    account = Account([host.node for host in runners.hosts])
    Schedule(waiting, account, runners, lambda *_: SMALL, heard).run(threading.Event())
    assert runners.most == 2 and set(runners.places) == {0, 1}
    assert [reason for *_, reason in heard.lines] == [None, None]


def test_a_record_that_is_not_seen_is_a_failure():
    step = FakeStep("train", [])
    step.done = frozenset()
    step.values = lambda cell: None
    step.done = set()
    _, heard = run([Waiting(cell("a"), (step,), 1)], 1)
    assert "not seen here" in heard.lines[0][2]


def test_a_large_cell_is_not_kept_waiting_by_small_ones():
    step = FakeStep("train", [])
    waiting = [Waiting(cell("small0"), (step,), 9.0), Waiting(cell("big"), (step,), 5.0)]
    waiting += [Waiting(cell(f"small{n}"), (step,), 1.0) for n in range(1, 6)]
    needs = lambda cell, step: BIG if cell.name == "big" else SMALL  # noqa: E731
    runners, _ = run(waiting, 4, need=needs)
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


def test_what_is_under_way_when_somebody_asks_to_stop_is_noted():
    runners, heard, stopping = FakeRunners(1), Heard(), threading.Event()
    runners.ask_to_stop = runners.wait = lambda things: None
    runners.ended = lambda references, seconds: stopping.set() or []
    account = Account([host.node for host in runners.hosts])
    waiting = [Waiting(cell(name), (FakeStep("x", []),), 1) for name in "ab"]
    Schedule(waiting, account, runners, lambda *_: SMALL, heard).run(stopping)
    assert heard.interruptions == ["a"] and not heard.lines
