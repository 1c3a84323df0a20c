"""Updates that are left out, and what they leave as it was."""

import copy
import json
import math

import pytest
import torch

from mimray.hashing import key
from mimray.mim.encoders.resnet import ResNetEncoder
from mimray.mim.guard import Guard, build_guard
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer
from mimray.recipe import Optim
from tests.mim.conftest import assemble

pytestmark = pytest.mark.unit

CPU = torch.device("cpu")
CLIP, FACTOR = 5.0, 100.0


def judged(guard, *norms):
    return [bool(guard.judge(torch.tensor(float(norm)))) for norm in norms]


class TestJudging:
    @pytest.fixture
    def guard(self):
        return Guard(FACTOR, CPU)

    def test_what_is_not_finite_is_left_out_from_the_first_update_on(self, guard):
        assert judged(guard, math.nan, math.inf, 1.0) == [True, True, False]

    def test_a_spike_is_left_out_once_the_usual_is_known(self, guard):
        assert judged(guard, *[2.0] * 19, 2000.0) == [False] * 20  # the first twenty arm it
        guard = Guard(FACTOR, CPU)
        assert judged(guard, *[2.0] * 20, 2000.0, 199.0) == [False] * 20 + [True, False]

    def test_the_usual_is_the_geometric_mean(self, guard):
        judged(guard, *[1.0, 4.0] * 10)  # 2
        assert judged(guard, 199.0) == [False]
        again = Guard(FACTOR, CPU)
        judged(again, *[1.0, 4.0] * 10)
        assert judged(again, 201.0) == [True]

    def test_the_usual_follows_the_last_hundred(self, guard):
        judged(guard, *[1000.0] * 50, *[1.0] * 1000)
        assert judged(guard, 110.0) == [True]

    def test_what_is_left_out_is_not_usual(self, guard):
        assert judged(guard, *[1.0] * 20, *[1000.0] * 50) == [False] * 20 + [True] * 50

    def test_no_gradient_at_all_says_nothing_on_the_usual(self, guard):
        assert judged(guard, *[1.0] * 20, 0.0, 50.0) == [False] * 22
        assert judged(guard, 0.0, 0.0, 1000.0) == [False, False, True]

    def test_it_counts(self, guard):
        judged(guard, 1.0, math.nan, 1.0, math.nan, math.nan)
        assert guard.skipped == 3 and guard.to_list()[1:] == [2.0, 3.0, 2.0]

    def test_it_goes_on_from_its_state_to_the_bit(self, guard):
        norms = torch.rand(60, generator=torch.Generator().manual_seed(0)).exp()
        judged(guard, *norms[:30])
        other = Guard(FACTOR, CPU)
        other.load(json.loads(json.dumps(guard.to_list())))
        for norm in (*norms[30:], torch.tensor(1e4), torch.tensor(math.nan)):
            assert torch.equal(guard.judge(norm), other.judge(norm))
            assert torch.equal(guard.state, other.state)

    def test_the_official_loop_takes_spikes(self):
        guard = build_guard(Optim(like_official=True), CPU)
        assert judged(guard, *[1.0] * 30, 1e30, math.nan, math.inf) == [False] * 31 + [True] * 2
        guard = build_guard(Optim(spike=10), CPU)
        assert judged(guard, *[1.0] * 30, 11.0) == [False] * 30 + [True]


class Run:
    """A tiny model, its optimiser and guard: one step at a time."""

    def __init__(self, model, clip_partial=False):
        self.model = model.train()
        self.optimizer = build_optimizer(model, Optim(lr=1e-3))
        self.guard = Guard(FACTOR, CPU)
        self.clip_partial = clip_partial

    def step(self, number, scale=1.0, size=4):
        """One on the pictures of that number, their gradient multiplied by `scale`."""
        hook = self.model.head.register_full_backward_hook(
            lambda module, into, out: tuple(g if g is None else g * scale for g in into)
        )
        result = train_step(
            *(self.model, self.optimizer, pictures(number, size), CLIP, False, self.clip_partial),
            guard=self.guard,
        )
        hook.remove()
        return result

    def state(self):
        """Everything that an update changes."""
        of_parameters = {
            f"{name}/{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        return {k: v.clone() for k, v in {**self.model.state_dict(), **of_parameters}.items()}


def pictures(number, size):
    """A global batch of four, in micro-batches."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    hidden = torch.rand(4, 8, 8, generator=generator) < 0.5
    parts = (images, hidden, key(number, torch.arange(4)), torch.ones(4))
    return [MicroBatch(*cut) for cut in zip(*(part.split(size) for part in parts), strict=True)]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def run(tiny):
    return Run(tiny(drop_path=0.2))


class TestTheStep:
    @pytest.mark.parametrize("size", [4, 1])
    @pytest.mark.parametrize("clip_partial", [False, True])
    def test_a_nan_changes_nothing_and_the_next_is_as_without(self, tiny, size, clip_partial):
        run, undisturbed = Run(tiny(), clip_partial), Run(tiny(), clip_partial)
        for number in (0, 1):
            run.step(number, size=size)
            undisturbed.step(number, size=size)
        before = run.state()
        result = run.step(2, scale=math.nan, size=size)
        assert same(run.state(), before) and not result.norm.isfinite()
        run.step(3, size=size)
        undisturbed.step(3, size=size)
        assert same(run.state(), undisturbed.state()) and not same(run.state(), before)

    def test_a_nan_in_the_first_step_leaves_the_moments_at_zero(self, run):
        run.step(0, scale=math.nan)
        state = run.state()
        assert all(not v.any() for k, v in state.items() if k.endswith(("/step", "/exp_avg")))
        assert all(v.isfinite().all() for v in state.values())

    def test_a_spike_is_taken_before_twenty_updates_and_not_after(self, run):
        run.step(0, scale=1000.0)
        assert run.guard.skipped == 0
        for number in range(1, 25):
            run.step(number)
        before = run.state()
        assert run.step(25, scale=1000.0).norm > 100.0
        assert run.guard.skipped == 1 and same(run.state(), before)

    def test_its_loss_is_counted_where_it_is_a_number(self, run):
        spiked = run.step(0, scale=math.nan)  # the gradient alone
        assert spiked.error > 0 and spiked.values > 0
        with torch.no_grad():
            run.model.encoder.mask_token.fill_(math.nan)
        lost = run.step(0)
        assert lost.error == lost.values == 0 and lost.norm.isnan()

    def test_running_statistics_stay_clean(self):
        torch.manual_seed(0)
        encoder = ResNetEncoder(drop_path=0.0, embed=8, depths=(1, 1))
        run = Run(assemble(encoder, size=32))
        run.step(0)
        before = run.state()
        statistics = [k for k in before if k.endswith(("running_mean", "num_batches_tracked"))]
        batch = pictures(1, 4)
        batch[0].images[0, 0, 0, 0] = math.nan
        train_step(run.model, run.optimizer, batch, CLIP, False, guard=run.guard)
        assert statistics and same(run.state(), before)
        run.step(1)
        assert not any(torch.equal(run.state()[k], before[k]) for k in statistics)

    def test_without_a_guard_every_update_is_taken(self, tiny):
        model = tiny().train()
        optimizer = build_optimizer(model, Optim())
        batch = pictures(0, 4)
        batch[0].images[0] = math.nan
        result = train_step(model, optimizer, batch, CLIP, bf16=False)
        assert result.error.isnan() and not next(model.parameters()).isfinite().all()

    def test_steps_go_on_from_a_copy_of_the_state_to_the_bit(self, run):
        for number in range(22):
            run.step(number)
        other = copy.deepcopy(run)
        other.guard = Guard(FACTOR, CPU)
        other.guard.load(run.guard.to_list())
        for number, scale in [(22, 1000.0), (23, 1.0), (24, math.nan), (25, 1.0)]:
            run.step(number, scale)
            other.step(number, scale)
        assert same(run.state(), other.state()) and run.guard.to_list() == other.guard.to_list()
        assert run.guard.skipped == 2
