"""One model on several ranks: whole on each (DDP), or a part of every tensor on each (FSDP2).

Both average gradients over the ranks while the backward pass still runs. Outside of forward and
backward a shared model's parameters are always the ranks' parts (DTensors, cut along dimension 0), so
optimiser, clipping and checkpoints see nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mimray.mim.learner import Learner

Parallel = Literal["auto", "ddp", "fsdp"]
_LARGE = 500_000_000  # parameters whose weights, gradients and moments are 8 GB and more

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms


def replicate(model: Learner, parallel: Parallel, device: torch.device, bf16: bool) -> nn.Module:
    """The model that `train_step` and validation call, on all ranks alike.

    The plain model where there is one rank. `parallel`: see `choose`. FSDP makes other parameters of
    the model's, in place, so build the optimiser and load a checkpoint afterwards; all ranks must
    have the same weights before. Where `bf16`, FSDP gathers parameters in bfloat16 and sums gradients
    in float32.
    """
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    if ranks == 1:
        return model
    if device.type == "cuda":  # torch has none for CPUs
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place: the parameters stay
    if choose(parallel, sum(p.numel() for p in model.parameters()), device, ranks) == "ddp":
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # autocast casts what may be; targets are made of whole pixels
    )
    mesh = init_device_mesh(device.type, (ranks,))
    # A block of Swin returns a view; nobody writes into it, and PyTorch warns of those who would.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    blocks = [block for stage in model.encoder.stage_blocks() for block in stage]
    for part in [*blocks, model]:  # the model itself takes what is in no block
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for name in model.other_forwards:
        register_fsdp_forward_method(model, name)
    return model


def choose(
    parallel: Parallel, parameters: int, device: torch.device, ranks: int
) -> Literal["ddp", "fsdp"]:
    """`speed.parallel`, resolved: `auto` shares models of 500 million parameters and more, on GPUs."""
    if parallel != "auto":
        return parallel
    large = parameters >= _LARGE and device.type == "cuda" and ranks > 1
    return "fsdp" if large else "ddp"


def is_parallel(model: nn.Module) -> bool:
    """Whether `replicate` made it for several ranks."""
    return isinstance(model, DistributedDataParallel | FSDPModule)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without DDP around it; FSDP has nothing around."""
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def gradient_sync(model: nn.Module, due: bool) -> Iterator[None]:
    """Whether the backward pass in here ends a gradient: only then it travels between the ranks."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(due)
        model.set_is_last_backward(due)
        yield
    elif isinstance(model, DistributedDataParallel) and not due:
        with model.no_sync():
            yield
    else:
        yield


def clip_gradient(model: nn.Module, clip: float) -> Tensor:
    """Scale the gradient down to a norm of `clip` over all parameters and ranks; its norm before."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """The batch norms' buffers by name."""
    return {
        name: buffer
        for name, buffer in model.named_buffers()
        if name.rpartition(".")[2] in _STATISTICS
    }


def average_statistics(model: nn.Module) -> None:
    """Running statistics of batch norms, their mean over the ranks; training does not read them."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return
    for buffer in running_statistics(model).values():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()
