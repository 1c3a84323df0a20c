"""What a picture costs: floating-point operations of a recipe's model, and how many a device does a second.

Operations are those of matrix products and convolutions, two for each multiplication and addition, as
MFU counts them (Chowdhery et al., PaLM, 2022, appendix B): what is computed twice to save memory counts
once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mimray.mim.build import build_model
from mimray.mim.model import MaskedImageModel
from mimray.mim.targets import Target
from mimray.mim.targets.clusters import Clusters
from mimray.mim.targets.tokens import Tokens
from mimray.recipe import Recipe

_SIDE = {"cpu": 2048, "cuda": 8192}
_ROUNDS = 10


@dataclass(frozen=True)
class Flops:
    """Operations for one picture: of the forward pass, and of a training step."""

    forward: float
    training: float


def count_flops(recipe: Recipe) -> Flops:
    """Count the operations of a recipe's model, on no device, over one micro-batch.

    What a micro-batch needs once, such as SwinV2's position bias, is shared by its pictures.
    Looking up a target's classes (a tokenizer, the nearest colour) does not count. Raises ValueError,
    as `build_model` does.
    """
    count = recipe.micro_batch(recipe.speed.most_workers)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    model = model_on_paper(recipe)
    with torch.device("meta"), counter:
        loss = model(*empty_inputs(recipe, model.patch, count)).loss
        forward = counter.get_total_flops()
        loss.backward()
    return Flops(forward / count, counter.get_total_flops() / count)


def model_on_paper(recipe: Recipe) -> MaskedImageModel:
    """A recipe's model on the meta device. A target that looks its classes up gives any.

    Raises ValueError, as `build_model` does.
    """
    with torch.device("meta"):
        model = build_model(recipe).to("meta")  # what is read from a file is on the CPU
    if isinstance(model.target, Clusters | Tokens):
        model.target.forward = partial(_any_classes, model.target)  # type: ignore[method-assign]
    return model


def _any_classes(target: Target, images: Tensor) -> Tensor:
    """In the shape of the target's, for a user's tokenizer may do what has no meaning without data."""
    count, _, height, width = images.shape
    grid = (height // target.pixel, width // target.pixel)
    return torch.empty(count, 1, *grid, dtype=torch.int64, device=images.device)


def empty_inputs(recipe: Recipe, patch: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, hidden places and seeds of `count` pictures on torch's default device, not filled."""
    size = recipe.model.image_size
    side = size // patch
    return (
        torch.empty(count, 3, size, size),
        torch.empty(count, side, side, dtype=torch.bool),
        torch.empty(count, dtype=torch.int64),
    )


def _convolution_backward(
    gradient: Any, x: Any, weight: Any, _b: Any, _s: Any, _p: Any, _d: Any, transposed: bool,
    _o: Any, _groups: int, wanted: list[bool], **_: Any,
) -> int:  # fmt: skip
    """Operations for the gradients of a convolution's input and weight, from the tensors' shapes.

    Each takes as many as the forward pass. torch 2.15's own formula forgets the groups of the weight's
    gradient, which makes a depthwise convolution of C channels C times as expensive.
    """
    forward = conv_flop_count(x, weight, gradient, transposed)
    return int(forward * (wanted[0] + wanted[1]))


def matrix_rate(device: torch.device, bf16: bool) -> float:
    """Operations a second of a large square matrix product, bfloat16 or float32: the best of ten.

    The denominator of MFU. A data sheet's is higher (an H200 in bfloat16: 989e12, and 790e12 measured).
    """
    side, dtype = _SIDE[device.type], torch.bfloat16 if bf16 else torch.float32
    a, b = torch.randn(2, side, side, device=device, dtype=dtype)
    _ = a @ b
    best = min(_seconds(a, b) for _ in range(_ROUNDS))
    return 2 * side**3 / best


def _seconds(a: Tensor, b: Tensor) -> float:
    _wait(a.device)
    began = time.perf_counter()
    _ = a @ b
    _wait(a.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
