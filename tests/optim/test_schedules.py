import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimray.durations import Clock
from mimray.errors import UserError
from mimray.optim import learning_rate, rate_at
from mimray.recipe import Optim, Schedule, load_recipe

pytestmark = pytest.mark.unit

CLOCK = Clock(steps_per_epoch=10, batch=1, total=1000)
COSINE = Schedule(length="100ep", warmup="10ep", warmup_lr=0.1, min_lr=0.2)
KINDS = {"cosine": {}, "multistep": {}, "step": {"step_every": "30ep"}, "linear": {}}


def of_kind(kind, **settings):
    return Schedule(kind=kind, **KINDS[kind], **settings)


# ----- closed forms -------------------------------------------------------------------------------


def test_warm_up_starts_at_its_rate_and_ends_at_the_peak_without_a_drop():
    assert learning_rate(0, 2.0, COSINE, CLOCK) == 0.1
    assert learning_rate(50, 2.0, COSINE, CLOCK) == pytest.approx((0.1 + 2.0) / 2)
    assert learning_rate(100, 2.0, COSINE, CLOCK) == 2.0
    before, after = (learning_rate(s, 2.0, COSINE, CLOCK) for s in (99, 101))
    assert 2.0 - before == pytest.approx(1.9 / 100) and 2.0 - after < 1e-4


def test_the_cosine_ends_at_its_minimum():
    assert learning_rate(550, 2.0, COSINE, CLOCK) == pytest.approx(1.1)  # half way
    assert learning_rate(1000, 2.0, COSINE, CLOCK) == pytest.approx(0.2)
    assert learning_rate(999, 2.0, COSINE, CLOCK) == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize(("warmup", "left"), [("10ep", 0.9755), ("20ep", 0.9045)])
def test_without_the_prefix_the_cosine_drops_where_the_warm_up_ends(warmup, left):
    """The figures of microsoft/SimMIM's 10 and 20 epochs of warm-up in 100."""
    schedule = Schedule(warmup=warmup, warmup_prefix=False)
    end = CLOCK.steps(warmup)
    assert learning_rate(end - 1, 1.0, schedule, CLOCK) > 0.98
    assert learning_rate(end, 1.0, schedule, CLOCK) == pytest.approx(left, abs=5e-5)


def test_multistep_multiplies_at_every_milestone():
    schedule = of_kind("multistep", warmup="1ep", milestones=("50%", "700it", "90ep"), gamma=0.1)
    for step, rate in [(10, 1), (499, 1), (500, 0.1), (700, 0.01), (899, 0.01), (900, 0.001)]:
        assert learning_rate(step, 1.0, schedule, CLOCK) == pytest.approx(rate), step


def test_step_multiplies_again_and_again_from_the_start_of_the_run():
    schedule = of_kind("step", warmup="40ep", gamma=0.5)
    for step, rate in [(399, 399 / 400), (400, 0.5), (599, 0.5), (600, 0.25), (999, 0.125)]:
        assert learning_rate(step, 1.0, schedule, CLOCK) == pytest.approx(rate), step


def test_linear_falls_to_a_hundredth():
    schedule = of_kind("linear", warmup="10ep")
    for step, rate in [(99, 0.99), (100, 1.0), (550, 0.505), (1000, 0.01)]:
        assert learning_rate(step, 1.0, schedule, CLOCK) == pytest.approx(rate), step


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_rises_in_the_warm_up_and_falls_after_it(kind):
    schedule = of_kind(kind, warmup="10ep")
    rates = [learning_rate(s, 2.0, schedule, CLOCK) for s in range(1000)]
    assert rates[:101] == sorted(rates[:101]) and rates[100] == 2.0
    assert rates[100:] == sorted(rates[100:], reverse=True) and rates[-1] < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_up_longer_than_the_run_is_finite(kind):
    rates = [learning_rate(s, 1.0, of_kind(kind, warmup="200ep"), CLOCK) for s in range(1000)]
    assert rates == sorted(rates) and rates[0] == 0.0 and rates[-1] < 1.0


@pytest.mark.parametrize("none", ["0ep", "0it", "0.0%", "0e3img"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_warm_up_starts_at_the_peak(kind, none):
    assert learning_rate(0, 1.0, of_kind(kind, warmup=none), CLOCK) == 1.0


@given(st.sampled_from(list(KINDS)), st.integers(1, 6), st.integers(0, 999))
def test_the_official_loop_is_late_by_one_micro_batch(kind, micro_batches, step):
    """It counts micro-batches, and update u has the rate of number u * micro_batches - 1."""
    schedule = of_kind(kind, warmup="10ep", warmup_lr=0.1)
    finer = Clock(CLOCK.steps_per_epoch * micro_batches, 1, CLOCK.total * micro_batches)
    plain = schedule.model_copy(update={"warmup_prefix": False})
    number = max(0, step * micro_batches - 1)
    assert learning_rate(
        step, 1.0, schedule, CLOCK, like_official=True, micro_batches=micro_batches
    ) == pytest.approx(learning_rate(number, 1.0, plain, finer), rel=1e-12, abs=0)


# ----- settings that do not belong together -------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["schedule.kind=step"], "schedule: kind=step needs step_every; write schedule.step_every"),
        (["schedule.step_every=30ep"], "step_every=30ep is of kind=step, not of cosine"),
        (["schedule.kind=step", "schedule.step_every=30"], "schedule.step_every: 30 is not a dura"),
        (["schedule.kind=multistep", "schedule.milestones=[]"], "kind=multistep needs milestones"),
        (
            ["schedule.kind=linear", "schedule.warmup_prefix=false"],
            "warmup_prefix is of kind=cosine, not of linear; leave it out",
        ),
        (["schedule.kind=poly"], "schedule.kind='poly': input should be 'cosine', 'multistep'"),
        (["optim.like_official=maybe"], "optim.like_official='maybe'"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(overrides, says):
    with pytest.raises(UserError) as caught:
        load_recipe("demo", overrides)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule.kind=step", "schedule.step_every=30ep"],
        ["schedule.step_every=null"],
        ["schedule.kind=linear"],
        ["schedule.warmup_prefix=false"],
        ["optim.like_official=true"],
    ],
)
def test_what_fits_is_read_back_the_same(overrides, tmp_path):
    recipe = load_recipe("demo", overrides)
    (tmp_path / "again.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "again.yaml") == recipe


def test_a_layer_s_scale_goes_to_the_whole_schedule_or_like_official_to_the_peak_alone():
    schedule, clock = Schedule(length="100it", warmup="10it", warmup_lr=0.1), Clock(10, 4, 100)
    ours = rate_at(0, Optim(lr=1.0), schedule, clock)
    assert (ours(1.0), ours(0.5)) == (0.1, 0.05)
    official = rate_at(0, Optim(lr=1.0, like_official=True), schedule, clock)
    assert (official(1.0), official(0.5)) == (0.1, 0.1)
    half = rate_at(6, Optim(lr=1.0, like_official=True), schedule, clock)
    assert half(0.5) == pytest.approx(0.1 + (0.5 - 0.1) * 0.5)
