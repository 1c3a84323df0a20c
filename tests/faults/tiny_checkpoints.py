"""Checkpoints of a linear layer, written by one process that plays several."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mimray.optim import build_optimizer
from mimray.recipe import Optim
from mimray.train import checkpoint
from mimray.train.checkpoint import Shard
from mimray.train.run_folder import RunFolder
from mimray.train.state import tensors_of

Parts = tuple[nn.Module, torch.optim.Optimizer]


def new_parts(seed: int) -> Parts:
    """A model and its optimiser."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, build_optimizer(model, Optim(lr=0.1))


def trained(step: int) -> Parts:
    """The same as they are after a step of one and the same run."""
    model, optimizer = new_parts(0)
    for number in range(step):
        torch.manual_seed(number)
        model(torch.randn(4, 3)).sum().backward()
        optimizer.step()
    return model, optimizer


def everything(parts: Parts) -> dict[str, Tensor]:
    """All that a checkpoint of them holds."""
    files = tensors_of(*parts, Shard()).values()
    return {name: tensor.clone() for file in files for name, tensor in file.items()}


def share(parts: Parts, shard: Shard) -> dict[str, dict[str, Tensor]]:
    """A rank's rows of every tensor, as FSDP would cut it; the first has the numbers too."""
    whole = tensors_of(*parts, Shard())
    return {
        shard.file(kind): {
            name: tensor.chunk(shard.ranks)[shard.rank] if tensor.ndim else tensor
            for name, tensor in whole[f"{kind}.safetensors"].items()
            if tensor.ndim or shard.rank == 0
        }
        for kind in ("model", "optimizer")
    }


def write(run: RunFolder, step: int, shards: int) -> None:
    """The checkpoint of a step, in so many shards."""
    for rank in reversed(range(shards)):
        shard = Shard(rank, shards, f"the start of step {step}")
        checkpoint.write(run, step, share(trained(step), shard), {"step": step}, 0.25, shard)


def assert_loads(run: RunFolder, step: int, when: str = "") -> None:
    """The checkpoint of a step holds what was trained until then."""
    parts = new_parts(1)
    assert checkpoint.load(run, step, *parts) == {"step": step}, when
    found, expected = everything(parts), everything(trained(step))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found), when
