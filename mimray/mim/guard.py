"""Which updates are left out: those whose gradient is not finite, or a spike beside what it used to be.

Everything stays on the device: a step neither waits for the answer nor asks another rank. Gradients are
summed over all ranks before, so one rank's NaN is in everybody's norm and all decide alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimray.recipe import Optim

_MEMORY = 0.99  # of the running mean: about the last hundred updates
_ARMED = 20  # updates before a spike can be told


class Guard:
    """Follows the gradient norm of a run.

    `factor`: a norm this many times the running geometric mean is a spike. `state`: float64 (4,): the
    running mean of log norms, updates taken, updates skipped, and how many of these in a row just now.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self.log_factor = math.log(factor)
        self.state = torch.zeros(4, dtype=torch.float64, device=device)

    def judge(self, norm: Tensor) -> Tensor:
        """Take in the norm of this step's gradient, before clipping; returns whether to skip, as the
        float 1 or 0 that fused optimisers take for `found_inf`."""
        mean, taken, skipped, row = self.state.unbind()
        log = norm.double().log()
        spike = (taken >= _ARMED) & (log > mean + self.log_factor)
        skip = ~norm.isfinite() | spike
        weight = torch.clamp(1.0 / (taken + 1.0), min=1.0 - _MEMORY)
        # a batch of padding alone has no gradient, and so nothing to say on what is usual
        following = torch.where(skip | (norm == 0.0), mean, mean + weight * (log - mean))
        one = skip.double()
        self.state = torch.stack([following, taken + 1.0 - one, skipped + one, (row + 1.0) * one])
        return skip.float()

    @property
    def skipped(self) -> int:
        """Updates left out so far. Waits for the device."""
        return int(self.state[2])

    def to_list(self) -> list[float]:
        """The state for a checkpoint; JSON holds doubles without loss. Waits for the device."""
        return [float(value) for value in self.state.tolist()]

    def load(self, state: list[float]) -> None:
        """Go on from a checkpoint's state."""
        self.state = torch.tensor(state, dtype=torch.float64, device=self.state.device)


def build_guard(settings: Optim, device: torch.device) -> Guard:
    """The guard of a recipe. The official loop takes spikes (microsoft/SimMIM `main_simmim.py`), so with
    `like_official` only what is not finite is left out."""
    return Guard(math.inf if settings.like_official else settings.spike, device)
