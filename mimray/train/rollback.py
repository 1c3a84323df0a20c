"""Back to the last checkpoint's weights when update after update has to be left out."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from mimray.errors import RunFailed
from mimray.mim.guard import Guard
from mimray.recipe import Optim
from mimray.train import checkpoint
from mimray.train.group import Trainer, agree
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver

_LATE = 2  # steps that a GPU's answer is read later, so that the host does not wait for it


class Rollback:
    """Counts what a `Guard` leaves out in a row, the same on all ranks, for it has seen the same norms.

    `done`: roll-backs so far, of all of the run. The pictures of the steps in between are passed: what
    could not be learned from is not tried again.
    """

    def __init__(self, settings: Optim, trainer: Trainer, done: int) -> None:
        self.settings, self.trainer, self.done = settings, trainer, done
        self.answers: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def due(self, guard: Guard) -> bool:
        """Whether `optim.skips` updates in a row were left out; asked after every step."""
        return self._in_a_row(guard) >= self.settings.skips

    def _in_a_row(self, guard: Guard) -> float:
        if self.trainer.device.type == "cpu":
            return float(guard.state[3])
        answer = torch.empty((), dtype=torch.float64, pin_memory=True)
        answer.copy_(guard.state[3], non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self.answers.append((answer, arrived))
        if len(self.answers) <= _LATE:
            return 0.0
        answer, arrived = self.answers.popleft()
        arrived.synchronize()
        return float(answer)

    def go_back(
        self,
        run: RunFolder,
        saver: Saver,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        guard: Guard,
    ) -> int:
        """Fill all ranks' weights and moments from the newest checkpoint; returns its step.

        Raises RunFailed where there is none, or when it was done `optim.rollbacks` times already.
        """
        saver.finish()
        step = agree(self.trainer, (checkpoint.newest(run) or 0) if self.trainer.rank == 0 else 0)
        count = self.settings.skips
        why = f"{count} updates in a row had a gradient that was not finite or {self.settings.spike:g} "
        why += (
            f"times the usual; lower optim.lr={self.settings.lr:g}, which makes another run of it"
        )
        if not step:
            raise RunFailed(f"before the first checkpoint {why}")
        if self.done >= self.settings.rollbacks:
            raise RunFailed(f"after {self.done} roll-backs to a checkpoint, again {why}")
        self.done += 1
        self.answers.clear()
        kept: dict[str, Any] = checkpoint.load(run, step, model, optimizer)
        mean, taken, *_ = kept["guard"]
        guard.load([mean, taken, guard.skipped, 0.0])
        return step
