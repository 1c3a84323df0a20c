"""Locality of a ConvNet: how far from their centres its kernels weigh, the counterpart of averaged
attention distance (Dark Secrets of MIM, section 3, compares attention; a kernel is the same for all
pictures, so its weights say it)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mimray.analysis.diagnostic import Row
from mimray.mim.encoders import Encoder
from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.replknet import LargeKernel


def kernel_locality(encoder: Encoder) -> list[Row]:
    """One row a convolution larger than 1 x 1, in the order they run.

    `layer`: the module's name; `stage`: of the blocks it is in, None in the stem and between stages;
    `kernel`: taps of a side; `tap_px`: image pixels from a tap to the next; `distance_px`: mean distance
    of taps from the kernel's centre by their share of |weight|, averaged over output channels;
    `uniform_px`: that of a kernel of equal weights. RepLKNet's 5 x 5 branch is part of the large kernel.

    Raises ValueError for an encoder without such kernels, for one in training mode, and for weights that
    are not finite.
    """
    if not isinstance(encoder, ConvEncoder):
        raise ValueError(
            f"a {encoder.family} has no kernels to measure but its patch embedding's; its attention "
            "and its receptive field can be measured"
        )
    if encoder.training:
        raise ValueError("kernels are of an encoder in evaluation mode; call its eval() before")
    stages = {
        module: number
        for number, blocks in enumerate(encoder.stage_blocks(), start=1)
        for block in blocks
        for module in block.modules()
    }
    return [
        {"layer": name, "index": index, "stage": stages.get(module)} | _figures(kernel, tap_px)
        for index, (name, module, kernel, tap_px) in enumerate(_kernels(encoder), start=1)
    ]


def mean_distance(kernel: Tensor) -> Tensor:
    """Kernel (out, in, h, w) -> float64 (out,): mean distance of its taps from the centre, in taps.

    Every input's kernel of an output counts as its weights are large. nan where all of them are 0.
    """
    weight = kernel.double().abs().sum(dim=1)
    rows, columns = (
        torch.arange(side, dtype=torch.float64, device=kernel.device) - (side - 1) / 2
        for side in kernel.shape[-2:]
    )
    distance = torch.hypot(rows[:, None], columns)
    return (weight * distance).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))


def _figures(kernel: Tensor, tap_px: float) -> Row:
    return {
        "kernel": kernel.shape[-1],
        "tap_px": tap_px,
        "distance_px": tap_px * mean_distance(kernel).nanmean().item(),
        "uniform_px": tap_px * mean_distance(torch.ones_like(kernel[:1, :1])).item(),
    }


@torch.no_grad()
def _kernels(encoder: ConvEncoder) -> list[tuple[str, nn.Module, Tensor, float]]:
    """Name, module, kernel (out, in, h, w), and image pixels from tap to tap, in the order they run."""
    found = []
    image = encoder.mask_token.new_zeros(1, 3, encoder.stride, encoder.stride)  # the smallest

    def meet(module: nn.Module, inputs: tuple[Tensor], name: str) -> None:
        kernel = _kernel(module)
        if not kernel.isfinite().all():
            raise ValueError(f"weights of {name} are not finite; has the checkpoint diverged?")
        if max(kernel.shape[-2:]) > 1:
            found.append((name, module, kernel, image.shape[-1] / inputs[0].shape[-1]))

    hooks = [
        module.register_forward_pre_hook(partial(meet, name=name))
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d | LargeKernel) and ".large_kernel." not in name
    ]
    try:
        encoder(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _kernel(module: nn.Module) -> Tensor:
    conv = module.merged() if isinstance(module, LargeKernel) else module
    assert isinstance(conv, nn.Conv2d)
    return conv.weight
