"""RepLKNet: depthwise convolutions of up to 31 x 31, written from its published definition."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mimray.mim.encoders.convnet import ConvEncoder
from mimray.mim.encoders.protocol import EncoderSpec

SMALL_KERNEL = 5
FFN_RATIO = 4


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = False
) -> nn.Sequential:
    """A convolution that keeps the grid (but for its stride), batch norm, and ReLU where asked."""
    padding = kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    layers: list[tuple[str, nn.Module]] = [("conv", conv), ("bn", nn.BatchNorm2d(outputs))]
    if relu:
        layers.append(("nonlinear", nn.ReLU()))
    return nn.Sequential(OrderedDict(layers))


def fold(layers: Any) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the one convolution that a `conv_bn` is in evaluation."""
    bn = layers.bn
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return layers.conv.weight * scale.view(-1, 1, 1, 1), bn.bias - bn.running_mean * scale


class LargeKernel(nn.Module):
    """Depthwise convolution of a large kernel and, with `reparam`, one of 5 x 5 beside it, added.

    The small one helps the large one to learn what is near (RepLKNet, section 3, guideline 3).
    """

    def __init__(self, channels: int, kernel: int, reparam: bool) -> None:
        super().__init__()
        self.lkb_origin = conv_bn(channels, channels, kernel, groups=channels)
        self.small_conv = (
            conv_bn(channels, channels, SMALL_KERNEL, groups=channels) if reparam else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.lkb_origin(x)
        return out if self.small_conv is None else out + self.small_conv(x)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """The one convolution, with a bias, that all this is in evaluation."""
        kernel, bias = fold(self.lkb_origin)
        channels, _, side, _ = kernel.shape
        if self.small_conv is not None:
            small, small_bias = fold(self.small_conv)
            border = (side - SMALL_KERNEL) // 2
            kernel = kernel + nn.functional.pad(small, (border,) * 4)
            bias = bias + small_bias
        conv = nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels).to(kernel)
        conv.load_state_dict({"weight": kernel, "bias": bias})
        return conv


class RepLKBlock(nn.Module):
    """Residual: norm, 1 x 1, large depthwise kernel, 1 x 1; the counterpart of attention."""

    def __init__(self, channels: int, kernel: int, reparam: bool, drop_path: float) -> None:
        super().__init__()
        self.prelkb_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, channels, 1, relu=True)
        self.large_kernel: nn.Module = LargeKernel(channels, kernel, reparam)
        self.pw2 = conv_bn(channels, channels, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.large_kernel(self.pw1(self.prelkb_bn(x))).relu()
        return x + self.drop_path(self.pw2(inner))


class ConvFFN(nn.Module):
    """Residual: norm, 1 x 1 to four times the channels, GELU, 1 x 1 back."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.preffn_bn = nn.BatchNorm2d(channels)
        self.pw1 = conv_bn(channels, FFN_RATIO * channels, 1)
        self.pw2 = conv_bn(FFN_RATIO * channels, channels, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.pw1(self.preffn_bn(x)))
        return x + self.drop_path(self.pw2(inner))


class Stage(nn.Module):
    """`depth` pairs of a RepLK block and a ConvFFN, both dropped at the pair's rate."""

    def __init__(self, channels: int, kernel: int, reparam: bool, rates: list[float]) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        for rate in rates:
            self.blocks.append(RepLKBlock(channels, kernel, reparam, rate))
            self.blocks.append(ConvFFN(channels, rate))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class RepLKNetEncoder(ConvEncoder):
    """Satisfies `Encoder`. Source: Scaling Up Your Kernels to 31x31, section 4.1; DingXiaoH/
    RepLKNet-pytorch `replknet.py`, whose parameters have the same names, so its checkpoints fit.

    `embed`: channels of the first stage, doubled in each; `kernels`: side of each stage's depthwise
    kernels; `reparam`: a 5 x 5 branch beside each of them, which `merge` adds into it. All layers
    start as PyTorch's do, in the published code too.
    """

    family = "replknet"

    def __init__(
        self,
        drop_path: float,
        embed: int,
        depths: tuple[int, ...],
        kernels: tuple[int, ...],
        reparam: bool,
    ) -> None:
        super().__init__()
        widths = tuple(embed * 2**stage for stage in range(len(depths)))
        last = max(1, sum(depths) - 1)
        rates = [drop_path * block / last for block in range(sum(depths))]
        self.stem = nn.Sequential(
            conv_bn(3, embed, 3, stride=2, relu=True),
            conv_bn(embed, embed, 3, groups=embed, relu=True),
            conv_bn(embed, embed, 1, relu=True),
            conv_bn(embed, embed, 3, stride=2, groups=embed, relu=True),
        )
        self.stages, self.transitions = nn.ModuleList(), nn.ModuleList()
        for width, depth, kernel in zip(widths, depths, kernels, strict=True):
            if self.stages:
                self.transitions.append(transition(width // 2, width))
            self.stages.append(Stage(width, kernel, reparam, rates[:depth]))
            rates = rates[depth:]
        self.norm = nn.BatchNorm2d(widths[-1])
        self.describe(embed, widths, depths)

    def run_stem(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def run_stages(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            x = stage(self.transitions[number - 1](x) if number else x)
            features.append(x)
        features[-1] = self.norm(x)
        return features

    def merge(self) -> None:
        """Make each large kernel, its 5 x 5 branch and their batch norms one convolution, for
        inference: features in evaluation stay the same."""
        for module in self.modules():
            if isinstance(module, RepLKBlock) and isinstance(module.large_kernel, LargeKernel):
                module.large_kernel = module.large_kernel.merged()


def transition(inputs: int, outputs: int) -> nn.Sequential:
    """Between stages: 1 x 1 to more channels, then depthwise 3 x 3 to half the grid."""
    return nn.Sequential(
        conv_bn(inputs, outputs, 1, relu=True),
        conv_bn(outputs, outputs, 3, stride=2, groups=outputs, relu=True),
    )


def _spec(
    embed: int, depths: tuple[int, ...], kernels: tuple[int, ...], reparam: bool = True
) -> EncoderSpec:
    sizes = {"embed": embed, "depths": depths, "kernels": kernels, "reparam": reparam}
    return EncoderSpec("replknet", RepLKNetEncoder, sizes)


SPECS = {
    "replknet_nano": _spec(32, (1, 1, 2), (13, 9, 7)),
    "replknet31_base": _spec(128, (2, 2, 18, 2), (31, 29, 27, 13)),
    # Without the 5 x 5 branch, as pre-trained in Revealing the Dark Secrets of MIM.
    "replknet31_base_plain": _spec(128, (2, 2, 18, 2), (31, 29, 27, 13), reparam=False),
}
