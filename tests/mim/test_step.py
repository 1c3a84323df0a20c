import dataclasses

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mimray import load_recipe
from mimray.hashing import key
from mimray.mim.step import MicroBatch, micro_batch, train_step

pytestmark = pytest.mark.unit

BATCH = 8


@pytest.fixture
def samples():
    """A global batch whose pictures hide differently much, so that a mean of means would differ."""
    generator = torch.Generator().manual_seed(2)
    share = torch.linspace(0.1, 0.9, BATCH)[:, None, None]
    return MicroBatch(
        torch.randn(BATCH, 3, 32, 32, generator=generator),
        torch.rand(BATCH, 8, 8, generator=generator) < share,
        key(0, torch.arange(BATCH)),
        torch.ones(BATCH),
    )


def fields(micro):
    return [getattr(micro, field.name) for field in dataclasses.fields(micro)]


def cut(micro, size):
    return [
        MicroBatch(*parts) for parts in zip(*(f.split(size) for f in fields(micro)), strict=True)
    ]


def padded(micro, count):
    """Pictures of weight 0 behind the batch: bright, and with something hidden."""
    wild = [torch.full((count, 3, 32, 32), 50.0), torch.ones(count, 8, 8, dtype=torch.bool)]
    extra = [*wild, torch.arange(count), torch.zeros(count)]
    return MicroBatch(*(torch.cat(both) for both in zip(fields(micro), extra, strict=True)))


def gradients(model, batch, clip=1e9):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    result = train_step(model, optimizer, batch, clip, bf16=False)
    return torch.cat([p.grad.flatten() for p in model.parameters()]), result


@pytest.fixture
def whole(tiny, samples):
    return gradients(tiny(drop_path=0.3), [samples])


def test_the_gradient_of_the_whole_batch_is_that_of_its_mean_loss(tiny, samples, whole):
    model = tiny(drop_path=0.3).train()
    out = model(samples.images, samples.supervision, samples.seeds)
    out.loss.backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()])
    gradient, result = whole
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)
    assert (result.error / result.values).item() == pytest.approx(out.loss.item(), rel=1e-5)
    assert result.norm.item() == pytest.approx(expected.norm().item(), rel=1e-5)


@pytest.mark.parametrize("size", [8, 4, 3, 2, 1])
@pytest.mark.parametrize("padding", [0, 1, 5])
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(tiny, samples, whole, size, padding):
    batch = cut(padded(samples, padding), size)
    gradient, result = gradients(tiny(drop_path=0.3), batch)
    assert (gradient - whole[0]).abs().max() < 1e-5
    for ours, theirs in zip(fields(result), fields(whole[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [8, 2])
def test_the_gradient_is_clipped_once(tiny, samples, whole, size):
    clip = whole[1].norm.item() / 10
    gradient, result = gradients(tiny(drop_path=0.3), cut(samples, size), clip)
    assert gradient.norm().item() == pytest.approx(clip, rel=1e-3)
    assert result.norm.item() == pytest.approx(whole[1].norm.item(), rel=1e-5)
    assert (gradient - whole[0] / 10).abs().max() < 1e-5


def test_a_batch_of_padding_alone_moves_nothing(tiny, samples):
    nothing = MicroBatch(*fields(samples)[:3], torch.zeros(BATCH))
    gradient, result = gradients(tiny(), [nothing])
    assert (gradient == 0).all()
    assert result.error == result.values == 0


def test_a_wrapped_model_of_one_rank_gives_the_same_gradient(tiny, samples, whole, tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(tiny(drop_path=0.3))
        gradient, _ = gradients(model, cut(samples, 4))
    finally:
        dist.destroy_process_group()
    assert (gradient - whole[0]).abs().max() < 1e-5


def test_gradients_do_not_pile_up_over_steps(tiny, samples):
    model = tiny()
    first, _ = gradients(model, [samples])
    again, _ = gradients(model, [samples])
    torch.testing.assert_close(first, again)


def test_bf16_changes_little_and_keeps_sums_exact(tiny, samples, whole):
    model = tiny(drop_path=0.3).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    result = train_step(model, optimizer, cut(samples, 4), 1e9, bf16=True)
    assert result.values == whole[1].values
    assert result.error.item() == pytest.approx(whole[1].error.item(), rel=0.02)


def test_what_a_sample_sees_depends_on_seed_row_and_epoch_alone():
    recipe = load_recipe("demo")
    images = torch.randint(256, (4, 3, 96, 96), dtype=torch.uint8)
    rows, weight = torch.tensor([5, 7, 9, -1]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    together = micro_batch(recipe, 4, images, rows, weight, epoch=2)
    alone = micro_batch(recipe, 4, images[1:2], rows[1:2], weight[1:2], epoch=2)
    for a, b in zip(fields(together), fields(alone), strict=True):
        assert torch.equal(a[1:2], b)
    assert together.supervision.shape == (4, 24, 24) and together.images.dtype == torch.float32
    others = [
        micro_batch(recipe, 4, images, rows, weight, epoch=3),
        micro_batch(load_recipe("demo", ["run.seed=1"]), 4, images, rows, weight, epoch=2),
        micro_batch(recipe, 4, images, rows + 1, weight, epoch=2),
    ]
    for other in others:
        assert (other.supervision != together.supervision).flatten(1).any(dim=1).all()
        assert not set(other.seeds.tolist()) & set(together.seeds[:3].tolist())
