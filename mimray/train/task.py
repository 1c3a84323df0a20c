"""What one kind of training does differently from another, behind one protocol.

The loop, its checkpoints, restarts and records are the same for all of them. A task travels to every
trainer and to Ray's controller, so its module imports no torch; its methods do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mimray.data.framing import Framing
from mimray.recipe import TrainingRecipe

if TYPE_CHECKING:
    import torch

    from mimray.mim.learner import Learner
    from mimray.mim.step import MicroBatch
    from mimray.train.batches import Received
    from mimray.train.group import Trainer
    from mimray.train.job import Job

Rows = list[dict[str, Any]]
"""Of `metrics.jsonl`."""


class Validation(Protocol):
    """This rank's share of the held-out pictures; both methods are called by all ranks together.

    `damaged`: (row, reason) of pictures that could not be read since somebody last emptied it.
    """

    damaged: list[tuple[int, int]]

    def run(self, model: Any, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """Metrics by name, `val/loss` among them; `optimizer`: it may hold other weights to look at."""
        ...

    def picture(self, model: Any) -> bytes | None:
        """A PNG of what the model does with some of the pictures, after a `run`; None for none."""
        ...


class Task(Protocol):
    """One run's task.

    `kind`: `pretrain` or `finetune`, the verb's name and MLflow's tag. `together`: how many pictures of a
    batch, in their order, must not be parted into several micro-batches.
    """

    @property
    def recipe(self) -> TrainingRecipe: ...

    kind: str
    together: int

    @property
    def files(self) -> dict[str, str]:
        """Files that results depend on besides the pictures, as the recipe names them, and digests.

        Raises UserError for one that cannot be read.
        """
        ...

    @property
    def about(self) -> dict[str, Any]:
        """What `run.json` says of the task from the start on."""
        ...

    def lines(self) -> list[str]:
        """The same for the person in front of it."""
        ...

    def framing(self, training: bool) -> Framing:
        """How pictures are cut, for training or for validation."""
        ...

    def build(self, fresh: bool) -> Learner:
        """The model, on the CPU, initialised from torch's random state and, where it is `fresh` and no
        checkpoint will fill it, from the weights that the run starts from."""
        ...

    def optimizer(self, model: Learner) -> torch.optim.Optimizer: ...

    def micro_batch(self, received: Received, epoch: int) -> MicroBatch:
        """What the step sees of pictures that have arrived."""
        ...

    def validation(self, job: Job, trainer: Trainer) -> Validation: ...

    def criterion(self, metrics: dict[str, float]) -> float:
        """What the best checkpoint is told by; lower is better."""
        ...

    def final(self, rows: Rows) -> dict[str, float]:
        """The metrics that a run ends with, from all its rows."""
        ...
