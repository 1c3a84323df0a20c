"""The estimate against what torch's allocator gave out in real steps, and against sums by hand."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from mimray.mim.build import build_model
from mimray.mim.costs import empty_inputs
from mimray.mim.memory_estimate import LiveStorages, estimate_memory
from mimray.mim.recomputing import recompute_stages
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer
from mimray.recipe import Recipe

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def recipe(encoder="swin_nano", **speed):
    return Recipe.model_validate(
        {
            "model": {"encoder": encoder, "image_size": 96},
            "mask": {"unit": 32, "ratio": 0.5},
            "optim": {"batch": 4},
            "speed": speed,
        }
    )


def peak_of_a_step(asked, bf16):
    """Bytes that torch's allocator had given out at most, in a step of two micro-batches."""
    torch.manual_seed(0)
    model = build_model(asked)
    recompute_stages(model.encoder, asked.speed.checkpoint_stages)
    optimizer = build_optimizer(model, asked.optim)
    images, hidden, seeds = empty_inputs(
        asked, model.patch, asked.micro_batch(asked.speed.most_workers)
    )
    batch = 2 * [MicroBatch(images.normal_(), hidden.fill_(True), seeds, torch.ones(len(images)))]
    train_step(model, optimizer, batch, 5.0, bf16)
    optimizer.zero_grad(set_to_none=True)
    moments = [t for state in optimizer.state.values() for t in state.values()]
    held = sum(t.nbytes for t in [*model.parameters(), *model.buffers(), *moments, images])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        train_step(model, optimizer, batch, 5.0, bf16)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    now = peak = 0
    for change in changes:
        now += change.nbytes()
        peak = max(peak, now)
    return held + peak


@pytest.mark.parametrize(
    ("encoder", "bf16"), [("swin_nano", False), ("swinv2_nano", True), ("vit_nano", True)]
)
def test_the_estimate_is_the_peak_of_a_real_step(encoder, bf16):
    asked = recipe(encoder)
    estimated = estimate_memory(asked, CPU, bf16).total
    assert estimated == pytest.approx(peak_of_a_step(asked, bf16), rel=0.1)


def test_a_convnet_needs_workspaces_too():
    asked = recipe("resnet_nano")
    estimated = estimate_memory(asked, CPU, False).total
    assert estimated == pytest.approx(peak_of_a_step(asked, False), rel=0.25)


def test_stages_that_are_computed_again():
    """What a step takes falls, and the estimate with it."""
    plain, again = recipe(), recipe(checkpoint_stages=[1, 2])
    estimated = [estimate_memory(r, CPU, False).total for r in (plain, again)]
    assert estimated[1] < 0.8 * estimated[0]
    assert estimated[1] == pytest.approx(peak_of_a_step(again, False), rel=0.1)


def test_the_parts():
    model = build_model(recipe())
    parameters = sum(p.nbytes for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    memory = estimate_memory(recipe(), CPU, False)
    assert memory.weights == parameters + buffers
    assert memory.gradients == parameters
    assert memory.moments == 2 * parameters
    assert memory.total == memory.weights + 3 * parameters + memory.activations


def test_trainers_that_share_a_model():
    alone, shared = (estimate_memory(recipe(), CPU, False, parts) for parts in (1, 4))
    assert shared.gradients == alone.gradients // 4
    assert shared.moments == alone.moments // 4
    assert shared.activations == alone.activations


def test_activations_grow_with_the_micro_batch():
    few, many = (estimate_memory(recipe(micro_batch=n), CPU, False).activations for n in (1, 4))
    assert many == pytest.approx(4 * few, rel=0.1)


def test_live_storages_by_hand():
    """A view is no memory of its own; what nobody holds is given back."""
    with FakeTensorMode(), LiveStorages() as live:
        x = torch.empty(1000)
        y = x * 2
        z = y.view(10, 100)
        assert live.bytes == 8000
        del y
        assert live.bytes == 8000
        del z
        assert live.bytes == 4000
        assert live.peak == 8000
