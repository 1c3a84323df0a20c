"""The same global batches on 4, then 2, then 1 process: losses differ by rounding only.

In float64, where rounding is small, 20 steps agree to 1e-6; tests/faults/test_f04_elastic.py has float32
and real trainers.
"""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mimray import load_recipe
from mimray.hashing import key
from mimray.mim.build import build_model
from mimray.mim.masks import draw
from mimray.mim.parallel import replicate
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer
from mimray.recipe import Optim

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
BATCH, SIZE = 8, 32
PARTS = [(4, 0, 7), (2, 7, 14), (1, 14, 20)]  # processes, first step, last step


def micro_batch(step, patch, rank, ranks):
    """This rank's share of a step's global batch, float64."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    seeds = key(step, torch.arange(BATCH))
    hidden = draw("random", SIZE, 16, patch, 0.6, seeds)
    rows = slice(BATCH * rank // ranks, BATCH * (rank + 1) // ranks)
    return MicroBatch(images[rows], hidden[rows], seeds[rows], torch.ones(BATCH)[rows])


def train(rank, ranks, first, last, folder):
    """Go on from `folder`'s state for some steps; the first rank leaves state and losses there."""
    torch.set_num_threads(1)
    if ranks > 1:
        store = f"file://{folder}/store-{first}-{ranks}"
        dist.init_process_group("gloo", store, rank=rank, world_size=ranks)
    torch.manual_seed(0)
    settings = ["model.encoder=swin_nano", f"model.image_size={SIZE}", "mask.unit=16"]
    settings += ["model.window=2", "model.drop_path=0.1"]
    model = build_model(load_recipe("demo", settings)).double().train()
    replicas = replicate(model, "ddp", CPU, bf16=False)
    optimizer = build_optimizer(model, Optim(lr=1e-3))
    if first:
        kept = torch.load(f"{folder}/{first}.pt")
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
    losses = []
    for step in range(first, last):
        batch = [micro_batch(step, model.patch, rank, ranks)]
        result = train_step(replicas, optimizer, batch, clip=5.0, bf16=False)
        losses.append(float(result.error / result.values))
    if rank == 0:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state | {"losses": losses}, f"{folder}/{last}.pt")
    if ranks > 1:
        dist.barrier()
        dist.destroy_process_group()


def test_four_then_two_then_one_compute_what_one_does(tmp_path):
    for ranks, first, last in PARTS:
        if ranks > 1:
            mp.spawn(train, (ranks, first, last, str(tmp_path)), ranks)
        else:
            train(0, 1, first, last, tmp_path)
    losses = [v for *_, last in PARTS for v in torch.load(tmp_path / f"{last}.pt")["losses"]]
    (tmp_path / "one").mkdir()
    train(0, 1, 0, 20, tmp_path / "one")
    alone = torch.load(tmp_path / "one/20.pt")["losses"]
    assert losses == pytest.approx(alone, rel=1e-6, abs=0)
    assert losses[0] == pytest.approx(alone[0], rel=1e-12, abs=0)
    assert alone[-1] < alone[0]
