"""What a checkpoint holds of a model and its optimiser: taken from them, and put back.

A rank that shares a model by FSDP holds and writes some rows of every tensor. A tensor of a checkpoint
is its pieces along dimension 0 in the order of the shards; what is not cut lies in the first alone. So
a checkpoint of any number of shards goes into any number of ranks, each reading its own rows.

Where a run keeps an average of its weights, that is what the `model` files hold, for everybody who loads
them: it is what the run was judged by (so does timm's `load_checkpoint`). The weights that training goes
on from lie with the optimiser's state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyarrow import fs
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mimray.errors import RunFailed
from mimray.optim.average import AVERAGE, averages
from mimray.train.checkpoint import Shard
from mimray.train.tensor_file import TensorFile

_STATE = ("step", "exp_avg", "exp_avg_sq")  # AdamW's; the steps are the updates that were taken
_WEIGHTS = "weights"  # as trained, of what the model's files hold the average of


def shard_of(model: nn.Module, rank: int, ranks: int, start: str) -> Shard | None:
    """What this rank writes of a checkpoint; None for nothing. See `Shard` for `start`."""
    if isinstance(model, FSDPModule):
        return Shard(rank, ranks, start)
    return Shard() if rank == 0 else None


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, shard: Shard
) -> dict[str, dict[str, Tensor]]:
    """This rank's share by file: the live tensors. The optimiser's are named by parameter."""
    trained, kept = dict(model.state_dict()), averages(model, optimizer)
    state = {
        f"{key}/{name}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        for key in _STATE
        if key in optimizer.state.get(parameter, {})
    }
    state |= {f"{_WEIGHTS}/{name}": trained[name] for name in kept}
    named = {"model": trained | kept, "optimizer": state}
    return {shard.file(kind): _local(tensors, shard) for kind, tensors in named.items()}


def _local(tensors: dict[str, Tensor], shard: Shard) -> dict[str, Tensor]:
    """This rank's rows of what is shared; the first rank has everything else too."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            rows = tensor.to_local()
            if len(rows):
                found[name] = rows
        elif shard.rank == 0:
            found[name] = tensor
    return found


# ----- loading -------------------------------------------------------------------------------------


class Pieces:
    """The tensors of all shards of one kind, `model` or `optimizer`, read where they lie."""

    def __init__(self, filesystem: fs.FileSystem, paths: Sequence[str]) -> None:
        self.files = [TensorFile(filesystem, path) for path in paths]
        self.holders: dict[str, list[TensorFile]] = {}
        for file in self.files:
            for name in file.shapes:
                self.holders.setdefault(name, []).append(file)

    def __contains__(self, name: str) -> bool:
        return name in self.holders

    def fill(self, name: str, tensor: Tensor) -> None:
        """Read this rank's part of a tensor, and no more, into it.

        Raises RunFailed where the checkpoint has none of that name and shape.
        """
        holders = self.holders.get(name, [])
        shapes = [file.shapes[name] for file in holders]
        shape = shapes[0] if len(shapes) == 1 else _joined(shapes)
        if shape != tensor.shape:
            raise RunFailed(
                f"the checkpoint's {name} is {tuple(shape) if holders else 'not there'}, the model's "
                f"{tuple(tensor.shape)}: another version of mimray wrote it; start another run.name"
            )
        if isinstance(tensor, DTensor):
            local, first = tensor.to_local(), _first_row(tensor)
        else:
            local, first = tensor, 0
        rows = torch.empty(local.shape, dtype=local.dtype)
        self.fill_rows(name, rows, first)
        local.copy_(rows)

    def fill_rows(self, name: str, rows: Tensor, first: int) -> None:
        """Read the rows of a tensor from `first` on into `rows`, (n, ...) on the CPU."""
        holders = self.holders[name]
        if len(holders) == 1:  # it may have no rows at all, but be a number
            holders[0].read(name, rows, first)
            return
        start = 0
        for file in holders:
            end = start + file.shapes[name][0]
            begin, stop = max(first, start), min(first + len(rows), end)
            if begin < stop:
                file.read(name, rows[begin - first : stop - first], begin - start)
            start = end

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


def _joined(shapes: list[torch.Size]) -> torch.Size:
    """The shape of pieces put together; of none, that of nothing."""
    if not shapes:
        return torch.Size([-1])
    return torch.Size([sum(shape[0] for shape in shapes), *shapes[0][1:]])


def _first_row(tensor: DTensor) -> int:
    """Where this rank's rows of a tensor that FSDP cuts begin: all ranks but the last have as many."""
    mesh = tensor.device_mesh
    return -(-tensor.shape[0] // mesh.size()) * mesh.get_local_rank()


@torch.no_grad()
def fill(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: Pieces, state: Pieces
) -> None:
    """Fill model and optimiser in place, holding one tensor at a time besides.

    Raises RunFailed where the checkpoint has not what the model has.
    """
    for name, tensor in model.state_dict().items():
        weights.fill(name, tensor)
    trained = {p for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter not in trained or f"step/{name}" not in state:
            optimizer.state.pop(parameter, None)  # none of its updates was before the checkpoint
            continue
        of_parameter = optimizer.state[parameter]
        of_parameter.pop(AVERAGE, None)
        for key in _STATE:
            if key not in of_parameter:
                scalar = torch.zeros((), dtype=torch.float32, device=parameter.device)
                of_parameter[key] = scalar if key == "step" else torch.empty_like(parameter)
            state.fill(f"{key}/{name}", of_parameter[key])
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if f"{_WEIGHTS}/{name}" in state:  # what the model was filled with is the average
            optimizer.state[tensor][AVERAGE] = tensor.detach().clone()
            state.fill(f"{_WEIGHTS}/{name}", tensor.detach())
