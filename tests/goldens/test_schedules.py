"""The official learning rates: of the schedulers, in the loop, and of the released configurations."""

import numpy as np
import pytest

from mimray.durations import Clock
from mimray.optim import learning_rate
from mimray.recipe import Schedule
from tests.goldens.golden import Golden, excess, stems

pytestmark = pytest.mark.unit

STEM = "schedules"
CONTENT = {} if not stems(STEM) else Golden(STEM).info["content"]
RELEASED = CONTENT.pop("released_configs_at_batch_2048", {})
GIVEN = CONTENT.pop("_inputs", {})


@pytest.fixture
def strict(goldens):
    (tolerance,) = goldens(STEM).tolerances
    assert tolerance["rule"] == "rel"
    return tolerance["strict"]


def far(got, expected, strict):
    """The largest difference, in units of the tolerance."""
    expected = np.asarray(expected)
    assert len(got) == len(expected)
    return excess(np.abs(np.asarray(got) - expected), strict * np.abs(expected))


def kind_of(case):
    return next(kind for kind in ("multistep", "cosine", "step", "linear") if kind in case)


def schedule_of(case, warmup_epochs, warmup_prefix):
    kind, settings = kind_of(case), {}
    if kind == "cosine":
        settings = {"min_lr": GIVEN["min_lr"], "warmup_prefix": warmup_prefix}
    if kind == "multistep":
        milestones = tuple(f"{epoch}ep" for epoch in GIVEN["milestones"])
        settings = {"milestones": milestones, "gamma": GIVEN["gamma"]}
    if kind == "step":
        settings = {"step_every": f"{GIVEN['decay_epochs']}ep", "gamma": GIVEN["decay_rate"]}
    warmup = {"warmup": f"{warmup_epochs}ep", "warmup_lr": GIVEN["warmup_lr"]}
    return Schedule(kind=kind, **warmup, **settings)


def clock():
    return Clock(GIVEN["iters"], 1, GIVEN["epochs"] * GIVEN["iters"])


def groups(series, key):
    """(peak, rates) of the plain group and of the scaled one, whose start and minimum are not."""
    yield GIVEN["base_lr"], series[key]
    yield GIVEN["base_lr"] * GIVEN["layer_scale"], series[f"{key}_scaled_group"]


@pytest.mark.parametrize("case", CONTENT)
def test_the_schedulers(case, strict):
    series = CONTENT[case]
    schedule = schedule_of(case, series["warmup_epochs"], bool(series["warmup_prefix"]))
    for peak, rates in groups(series, "lr_at_num_updates"):
        got = [learning_rate(step, peak, schedule, clock()) for step in range(clock().total)]
        assert far(got, rates, strict) <= 1


@pytest.mark.parametrize("case", CONTENT)
def test_the_loop_sets_a_rate_late_and_keeps_it_between_updates(case, strict):
    """It counts micro-batches. An epoch's last ones that make no whole update count too."""
    series = CONTENT[case]
    prefix = series["warmup_prefix"] or None  # without one it is what `like_official` means
    schedule = schedule_of(case, series["warmup_epochs"], prefix)
    for peak, rates in groups(series, "lr_used_by_iteration"):
        got, behind = [], 0
        for iteration in range(len(rates)):
            got.append(learning_rate(behind, peak, schedule, clock(), like_official=True))
            if (iteration % GIVEN["iters"] + 1) % series["accumulation"] == 0:
                behind = iteration + 1
        assert far(got, rates, strict) <= 1


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_configurations(name, strict):
    config = RELEASED[name]
    settings = {}
    if config["kind"] == "cosine":  # only Microsoft's later repository has the prefix
        settings = {
            "min_lr": config["scaled_min_lr"],
            "warmup_prefix": not name.startswith("simmim/"),
        }
    schedule = Schedule(  # the milestone is the default, 700 of 800 epochs
        kind=config["kind"],
        warmup=f"{config['warmup_epochs']}ep",
        warmup_lr=config["scaled_warmup_lr"],
        **settings,
    )
    per_epoch = config["iterations_per_epoch"]
    clock = Clock(per_epoch, config["total_batch"], config["epochs"] * per_epoch)
    peak = config["scaled_base_lr"]
    got = [learning_rate(step, peak, schedule, clock) for step in config["num_updates"]]
    assert far(got, config["lr"], strict) <= 1
