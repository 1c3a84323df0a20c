"""Stochastic depth (Huang et al., 2016) whose draws are a hash of sample and layer.

timm's DropPath takes them from the device's random stream, so they would change with the number of
workers and be lost by a resume.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mimray.hashing import Purpose, key, uniform


class SampleSeeds:
    """Holds the seeds, int64 of shape (B,), of the batch that is in the encoder now."""

    current: Tensor | None = None


class HashedDropPath(nn.Module):
    """Drops the residual branch of a sample with probability `rate`, and rescales the others.

    A pass reads rate and layer as tensors, `own_rate` and `own_layer`: numbers would make every block
    one that torch.compile has not seen.
    """

    own_rate: Tensor
    own_layer: Tensor

    def __init__(self, rate: float, layer: int, seeds: SampleSeeds) -> None:
        super().__init__()
        self.rate, self.layer, self.seeds = rate, layer, seeds
        self.drops = rate > 0.0
        rates = torch.tensor(rate, dtype=torch.float64)
        self.register_buffer("own_rate", rates, persistent=False)
        self.register_buffer("own_layer", torch.tensor(layer), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.drops):
            return x
        seeds = self.seeds.current
        assert seeds is not None, "MaskedImageModel.forward sets the seeds"
        keep = uniform(key(Purpose.DROP_PATH, seeds, self.own_layer)) >= self.own_rate
        scale = (keep / (1.0 - self.own_rate)).to(x.dtype)
        return x * scale.view(-1, *[1] * (x.ndim - 1))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}, layer={self.layer}"


def use_hashed_drop_path(module: nn.Module) -> SampleSeeds:
    """Replace every timm DropPath under `module`, numbered in module order; returns their seeds."""
    seeds = SampleSeeds()
    places = [(n, m) for n, m in module.named_modules() if isinstance(m, DropPath)]
    for layer, (name, old) in enumerate(places):
        parent, _, attribute = name.rpartition(".")
        setattr(
            module.get_submodule(parent),
            attribute,
            HashedDropPath(float(old.drop_prob or 0.0), layer, seeds),
        )
    return seeds


def random_seeds(batch: int, device: torch.device) -> Tensor:
    """Seeds from torch's own stream, for those who call the model by hand."""
    return torch.randint(2**62, (batch,), device=device)
