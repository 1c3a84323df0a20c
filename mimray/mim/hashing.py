"""Random numbers as a hash of integers: the same bits on every device, machine and worker count.

Whatever is random about one sample (its crop, its flip, its mask, which layers it skips) is a pure
function of integers that name it, so nothing depends on who drew it or in which order. The mixer is
splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014), in
int64 arithmetic that wraps around, which torch does alike on CPU and GPU.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_MUL1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MUL2 = -7723592293110705685  # 0x94D049BB133111EB


class Purpose(IntEnum):
    """First part of every key, so that a crop and a mask of one sample share no randomness."""

    ORDER = 1
    CROP = 2
    MASK = 3
    DROP_PATH = 4
    HOLD_OUT = 5
    VALIDATION_MASK = 6


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """One round of splitmix64 on an int64 tensor of any shape; a bijection."""
    x = x + _GAMMA
    x = (x ^ _shift_right(x, 30)) * _MUL1
    x = (x ^ _shift_right(x, 27)) * _MUL2
    return x ^ _shift_right(x, 31)


def key(*parts: Tensor | int) -> Tensor:
    """Hash integers (tensors broadcast against each other) to one int64 tensor."""
    device = next((p.device for p in parts if isinstance(p, Tensor)), None)
    value = torch.zeros((), dtype=torch.int64, device=device)
    for part in parts:
        value = mix(value ^ torch.as_tensor(part, dtype=torch.int64, device=device))
    return value


def uniform(value: Tensor) -> Tensor:
    """Hash values (int64) to float64 in [0, 1), from their upper 53 bits."""
    return _shift_right(value, 11).to(torch.float64) * 2.0**-53
