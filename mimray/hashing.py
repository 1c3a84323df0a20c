"""Random numbers as a hash of integers: the same bits on every device, machine and worker count.

Whatever is random about one sample (its place, its crop, its flip, its mask, which layers it skips)
is a pure function of integers that name it, so nothing depends on who drew it or in which order. The
mixer is splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA
2014). It is written in the operators that NumPy arrays and torch tensors share, whose int64 wraps
around alike; so the data floor needs no torch for it, and the model draws on its own device.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeVar

import numpy as np

Integers = TypeVar("Integers")  # np.ndarray or torch.Tensor, int64

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
    AUGMENT = 7
    SPARE = 8
    SUBSET = 9
    CLUSTERS = 10
    MIX = 11
    ERASE = 12
    PROBE = 13


def _shift_right(x: Any, bits: int) -> Any:
    """Logical right shift; that of signed integers keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Integers) -> Integers:
    """One round of splitmix64 on int64 of any shape; a bijection."""
    y: Any = x
    y = y + _GAMMA
    y = (y ^ _shift_right(y, 30)) * _MUL1
    y = (y ^ _shift_right(y, 27)) * _MUL2
    return y ^ _shift_right(y, 31)


def key(*parts: Any) -> Any:
    """Hash integers to int64, of the shape that the parts broadcast to (at least one-dimensional).

    Parts are ints, and either NumPy arrays or torch tensors; the result is of the arrays' kind and
    on the tensors' device.
    """
    value: Any = np.zeros(1, dtype=np.int64)
    like = next((p for p in parts if hasattr(p, "device") and hasattr(p, "new_zeros")), None)
    if like is not None:
        value = like.new_zeros(1)
    for part in parts:
        value = mix(value ^ int(part) if isinstance(part, int) else value ^ part)
    return value


def uniform(value: Any) -> Any:
    """Hash values (int64) to float64 in [0, 1), from their upper 53 bits."""
    upper = _shift_right(value, 11)
    return (upper.double() if hasattr(upper, "double") else upper.astype(np.float64)) * 2.0**-53
