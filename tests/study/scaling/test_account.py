"""Where a step has room, and what may start beside it."""

import pytest

from benchmarks import study as benchmark
from mimray.errors import UserError
from mimray.evaluate.workers import Share
from mimray.recipe import load_recipe
from mimray.study.scaling.account import Account, Need, check_room, need_of
from mimray.study.scaling.cells import load_study
from mimray.train.resources import Layout, Node

pytestmark = pytest.mark.unit

HOST = Node("a", 8, 2)
ONE, GPU = Need(Share(1)), Need(Share(4, 1))
GROUP = Need(Share(0), Layout(2, True, 1.0))


def demo(*words):
    return load_recipe("demo", list(words))


def test_processes_fill_the_hosts_and_give_back():
    account = Account([Node("a", 2, 0), Node("b", 1, 0)])
    taken = []
    while (found := account.find(ONE)) is not None:
        account.take(found)
        taken.append(found)
    assert sorted(found.host for found in taken) == [0, 0, 1]
    account.give(taken[0])
    assert account.find(ONE).host == taken[0].host
    assert account.at_once(ONE) == 3


def test_a_warm_process_is_preferred():
    account = Account([Node("a", 4, 0), Node("b", 2, 0)])
    assert account.find(ONE).host == 0 and account.find(ONE, near=1).host == 1


@pytest.mark.parametrize(("placement", "cpus"), [("spread", (2.0, 1.0)), ("pack", (3.0, 0.0))])
def test_a_group_is_placed_as_ray_does_with_a_cpu_for_the_data(placement, cpus):
    account = Account([HOST, Node("b", 4, 2)])
    found = account.find(GROUP, placement)
    assert found.cpus == cpus and sum(found.gpus) == 2
    assert dict(found.place.speed) == {"workers": 2, "device": "gpu", "cpus_per_worker": 1.0}


def test_a_group_does_not_go_where_no_cpu_is_left_for_the_data():
    assert Account([Node("a", 2, 2)]).find(GROUP) is None


def test_nobody_is_let_onto_the_hosts_that_the_first_in_line_waits_for():
    account = Account([HOST, Node("b", 8, 0)])
    account.take(account.find(GPU))
    assert account.find(GROUP) is None
    closed = account.waiting_for(GROUP)
    assert closed == {0, 1}  # both GPUs of the one, and the other's CPU for the data
    assert account.find(GPU, closed=closed) is None
    assert account.find(GPU) is not None  # else it would keep the group waiting


def test_a_lost_host_has_no_room_and_gets_nothing_back():
    account = Account([Node("a", 1, 0), Node("b", 4, 1)])
    taken = account.find(ONE)
    account.take(taken)
    account.close(1)
    assert taken.host == 1 and taken.is_on({1}) and not taken.is_on({0})
    account.give(taken)  # else it would look the freest
    assert account.free == account.hosts == [Node("a", 1, 0), Node("b", 0, 0)]
    assert account.find(ONE).host == 0 and account.at_once(ONE) == 1
    assert account.find(GPU) is None and account.waiting_for(GPU) == set()


def test_a_group_is_on_all_hosts_that_it_takes_something_of():
    account = Account([Node("a", 8, 1), Node("b", 8, 1), Node("c", 4, 0)])
    taken = account.find(GROUP)
    assert [taken.is_on({n}) for n in range(3)] == [True, True, False]


def test_a_host_that_joins_has_room_also_beside_what_was_taken_before():
    account = Account([Node("a", 1, 0)])
    first = account.find(ONE)
    account.take(first)
    account.join(Node("b", 2, 0))
    second = account.find(ONE)
    account.take(second)
    assert second.host == 1 and account.free == [Node("a", 0, 0), Node("b", 1, 0)]
    account.give(first)
    assert account.free == [Node("a", 1, 0), Node("b", 1, 0)]


def test_a_small_machine_runs_one_cell_at_a_time_unless_the_study_says_otherwise():
    two = [Node("this machine", 2, 0)]
    whole = demo("speed.workers=1")
    assert Account(two).at_once(need_of(whole, whole, two)) == 1
    single = demo("speed.workers=1", "speed.cpus_per_worker=1")
    need = need_of(single, single, two)
    assert need.share == Share(1) and Account(two).at_once(need) == 2


@pytest.mark.parametrize("cpus", [2, 16])
def test_the_benchmark_goes_one_cell_at_a_time_on_any_host(tmp_path, monkeypatch, cpus):
    monkeypatch.setattr(benchmark, "private_cpus", lambda workers: cpus)
    file, hosts = tmp_path / "twelve.yaml", [Node("this machine", cpus, 4)]
    file.write_text(benchmark.study(tmp_path, 60, 120))
    laid = load_study(str(file), [])
    recipe = laid.cells[0].recipe
    assert len(laid.cells) == 12
    assert Account(hosts).at_once(need_of(recipe, recipe, hosts)) == 1


def test_a_group_is_measured_by_one_process():
    hosts, recipe = [Node("a", 64, 8), Node("b", 64, 8)], demo("speed.workers=16")
    need = need_of(recipe, recipe, hosts)
    assert need.layout.workers == 16 and need.layout.use_gpu and need.gpus == 16
    assert need_of(None, recipe, hosts).share.gpus == 1
    assert Account(hosts).at_once(need) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["speed.workers=4", "speed.device=gpu"], "speed.workers=4 need a GPU each"),
        (["speed.workers=64"], "64 trainers of 0.25 CPU"),
        (["speed.workers=1", "speed.cpus_per_worker=9"], "the largest host has 4 CPUs"),
        (["speed.workers=1", "speed.device=gpu"], "the cluster has none"),
    ],
)
def test_what_never_fits_is_refused(words, says):
    recipe = demo(*words)
    with pytest.raises(UserError, match=says):
        need_of(recipe, recipe, [Node("a", 4, 0)])


def test_what_fits_no_host_together_is_refused():
    need = Need(Share(3))
    with pytest.raises(UserError, match="cell x: needs 3 CPUs and 0 GPUs"):
        check_room(Account([Node("a", 2, 0), Node("b", 2, 0)]), need, "cell x", "spread")
