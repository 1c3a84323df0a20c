"""The memory that a trainer's tensors take, before any is allocated.

A forward and a backward pass run on fake tensors, which have shapes, dtypes and a device but no data,
and every storage is counted while something holds it. So autocast, the device's kernels and activations
that are computed again take what they take in a run.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimray.mim.costs import empty_inputs, model_on_paper
from mimray.mim.recomputing import recompute_stages
from mimray.mim.step import autocast
from mimray.recipe import Recipe

NOT_COUNTED = (
    "kernels' workspaces, the allocator's gaps, pictures read ahead, a tokenizer, torch itself; "
    "compiled blocks need less"
)
"""What the estimate leaves out."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one trainer: `weights` with buffers, `gradients`, AdamW's two `moments`, and
    `activations`, the most that forward and backward hold beside these."""

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """The peak of a step."""
        return self.weights + self.gradients + self.moments + self.activations


def estimate_memory(recipe: Recipe, device: torch.device, bf16: bool, parts: int = 1) -> Memory:
    """Estimate what a micro-batch of a recipe takes on a device.

    Gradients are held all the time, as several micro-batches or trainers make it. `parts`: trainers that
    share weights, gradients and moments (FSDP); a block that is gathered is then left out, as is all of
    NOT_COUNTED. Raises ValueError, as `build_model` and `recompute_stages` do.
    """
    model = model_on_paper(recipe)
    recompute_stages(model.encoder, recipe.speed.checkpoint_stages)
    with FakeTensorMode(), torch.device(device), LiveStorages() as live:
        model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device=device))
        weights = live.bytes
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        gradients = live.bytes - weights
        inputs = empty_inputs(recipe, model.patch, recipe.micro_batch(recipe.speed.most_workers))
        with autocast(device, bf16):
            model(*inputs).error.sum().backward()
        activations = live.peak - weights - gradients
    return Memory(weights // parts, gradients // parts, 2 * gradients // parts, activations)


class LiveStorages(TorchDispatchMode):
    """Counts the `bytes` of tensors that were made in it and are still held, and their `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                self._hold(made.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        """Count a storage, once, until nobody holds it."""
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size
