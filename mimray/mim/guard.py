"""Which updates are left out: those whose gradient is not finite, or a spike beside what it used to be.

Everything stays on the device: a step neither waits for the answer nor asks another rank. Gradients are
summed over all ranks before, so one rank's NaN is in everybody's norm and all decide alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MEMORY = 0.99  # of the running mean: about the last hundred updates
_ARMED = 20  # updates before a spike can be told


class Guard:
    """Follows the gradient norm of a run.

    `factor`: a norm this many times the running geometric mean is a spike. `state`: float64 (4,): the
    running mean of log norms, updates taken, updates skipped, and how many of these in a row just now.
    """

    def __init__(self, factor: float, device: torch.device) -> None:
        self.log_factor = torch.tensor(factor, dtype=torch.float64, device=device).log()
        self.state = torch.zeros(4, dtype=torch.float64, device=device)

    def judge(self, norm: Tensor) -> Tensor:
        """Take in the norm of this step's gradient, before clipping; returns whether to skip, as the
        float 1 or 0 that fused optimisers take for `found_inf`."""
        mean, taken, skipped, row = self.state.unbind()
        log = norm.double().clamp(min=1e-30).log()
        spike = (taken >= _ARMED) & (log > mean + self.log_factor)
        skip = ~norm.isfinite() | spike
        weight = torch.clamp(1.0 / (taken + 1.0), min=1.0 - _MEMORY)
        following = torch.where(skip, mean, mean + weight * (log - mean))
        one = skip.double()
        self.state = torch.stack([following, taken + 1 - one, skipped + one, (row + one) * one])
        return skip.float()

    def to_list(self) -> list[float]:
        """The state for a checkpoint; Python writes and reads doubles without loss."""
        return [float(v) for v in self.state.tolist()]

    def load(self, state: list[float]) -> None:
        """Go on from a checkpoint's state."""
        self.state = torch.tensor(state, dtype=torch.float64, device=self.state.device)
