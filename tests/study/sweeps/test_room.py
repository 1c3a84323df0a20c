"""How many trials fit a cluster, and what each may take."""

import pytest
import torch

from mimray.errors import UserError
from mimray.evaluate.workers import Share
from mimray.recipe import load_recipe
from mimray.study.placing import Plan, placed, plan_all, plan_trials
from mimray.train.resources import Node

pytestmark = pytest.mark.unit
torch.set_num_threads(1)


ONE, FOUR, GPU = Share(1), Share(4), Share(8, 1)


def demo(*words):
    return load_recipe("demo", [*words])


@pytest.mark.parametrize(
    ("words", "hosts", "plan"),
    [
        (["speed.workers=1"], [Node("a", 2, 0)], Plan(Share(2), Share(2), 1)),
        (["speed.workers=1"], [Node("a", 32, 0), Node("b", 16, 0)], Plan(FOUR, FOUR, 12)),
        (["speed.workers=1", "speed.cpus_per_worker=1"], [Node("a", 8, 0)], Plan(ONE, ONE, 8)),
        (["speed.workers=1"], [Node("a", 64, 8), Node("b", 64, 8)], Plan(GPU, GPU, 16)),
        (["speed.workers=1", "speed.device=cpu"], [Node("a", 64, 8)], Plan(FOUR, FOUR, 16)),
        (["speed.workers=2"], [Node("a", 2, 0)], Plan(Share(0), Share(2), 1)),
        (["speed.workers=2"], [Node("a", 3, 0)], Plan(Share(0), Share(3), 1)),
        (["speed.workers=2"], [Node("a", 16, 0)], Plan(Share(0), Share(3), 5)),
        (["speed.workers=4"], [Node("a", 64, 8), Node("b", 64, 8)], Plan(Share(0), GPU, 4)),
    ],
)
def test_as_many_trials_as_there_is_room_for(words, hosts, plan):
    assert plan_trials(demo(*words), hosts) == plan


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["speed.workers=1", "speed.device=gpu"], "the cluster has none"),
        (["speed.workers=1", "speed.cpus_per_worker=5"], "the largest host has 4 CPUs free"),
        (["speed.workers=64"], "64 trainers of 0.25 CPU"),
    ],
)
def test_a_trial_that_does_not_fit_the_cluster(words, says):
    with pytest.raises(UserError, match=says):
        plan_trials(demo(*words), [Node("a", 4, 0)])


def test_a_cluster_in_use_has_no_room():
    with pytest.raises(UserError, match="no host of the cluster has a whole CPU free"):
        plan_trials(demo("speed.workers=1"), [Node("a", 0.5, 0)])


def test_trials_side_by_side_take_the_same():
    alone, two = demo("speed.workers=1"), demo("speed.workers=2")
    assert plan_all([two, two], [Node("a", 16, 0)]) == plan_trials(two, [Node("a", 16, 0)])
    with pytest.raises(UserError, match=r"set speed\.workers"):
        plan_all([alone, two], [Node("a", 16, 0)])


def test_a_trial_trains_with_its_share():
    recipe, here = placed(demo("speed.workers=1"), Share(4, 1))
    assert here and recipe.speed.device == "gpu" and recipe.speed.loader_processes == 3
    recipe, here = placed(demo("speed.workers=2"), Share(0))
    assert not here and recipe == demo("speed.workers=2")
