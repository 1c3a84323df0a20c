"""`mimray` with faults that happen at a named place of a named step, in the trainers themselves.

`python -m tests.faults.injected WORDS...` is `mimray WORDS...`. The faults stand in the environment
(`MIMRAY_TEST_FAULTS`, JSON), which a private Ray's trainers inherit: a list of
`{"step", "rank", "place", "action"}`, each of which happens once, however often the step is trained.
With `MIMRAY_TEST_NOTES` every trainer notes the rows of every position there.

Places: `step` (its pictures are there), `backward` (in a gradient's hook), `all_reduce` (a bucket of
gradients is about to travel), `report` (a row is being made; rank 0), `save` (all of the checkpoint is
written but its manifest; rank 0). Actions: `kill`, `stop` (SIGSTOP), `hang`, `memory` (there is none),
and in `backward` `kill`, `nan` and `spike` of one gradient.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimray import environment

if __name__ == "__main__":
    environment.prepare()  # before Ray is imported

from mimray.train.loop import train as loop_train  # the real one, before it is replaced

if TYPE_CHECKING:
    from mimray.train.job import Job

FAULTS, NOTES = "MIMRAY_TEST_FAULTS", "MIMRAY_TEST_NOTES"


class Faults:
    """Those of this trainer."""

    def __init__(self, rank: int) -> None:
        self.step = 0
        self.folder = Path(os.environ[NOTES])
        self.plan = [f for f in json.loads(os.environ.get(FAULTS, "[]")) if f["rank"] == rank]

    def due(self, place: str, step: int | None = None) -> str | None:
        """The action that is due at a place of a step, the present one; it will not be due again."""
        for fault in self.plan:
            if fault["place"] == place and fault["step"] == (step or self.step):
                try:
                    (self.folder / "-".join(str(v) for v in fault.values())).touch(exist_ok=False)
                except FileExistsError:
                    continue
                return str(fault["action"])
        return None

    def meet(self, place: str, step: int | None = None) -> None:
        """End, stop or hang this process if that is due here."""
        action = self.due(place, step)
        if action == "hang":
            time.sleep(3600)
        elif action == "memory":
            import torch

            torch.empty(2**50)  # the allocator's own error
        elif action is not None:
            signals = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
            os.kill(os.getpid(), signals[action])

    def in_backward(self, gradient: Any) -> Any:
        """A parameter's gradient hook."""
        action = self.due("backward")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return gradient * {"nan": float("nan"), "spike": 1e6, None: 1.0}[action]


def train(job: Job) -> dict[str, Any]:
    """The training loop, with faults and notes put around what it calls."""
    import ray.train

    from mimray.train import loop

    faults = Faults(ray.train.get_context().get_world_rank())
    note_rows(loop, faults)
    put_into_steps(loop, faults)
    put_into_records(faults)
    return loop_train(job)


def note_rows(loop: Any, faults: Faults) -> None:
    """Count steps, and write down which rows each position is made of."""
    from mimray.train.tasks.pretraining import Pretraining

    real, batches = Pretraining.micro_batch, loop.Batches
    notes = open(faults.folder / f"{os.getpid()}.jsonl", "a")  # noqa: SIM115

    class Counted(batches):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[Any]:
            for position, received in super().__iter__():
                faults.step = position + 1
                yield position, received

    def noted(self: Pretraining, received: Any, epoch: int) -> Any:
        rows = [row for row in received.rows.tolist() if row >= 0]
        print(json.dumps({"position": faults.step - 1, "rows": rows}), file=notes, flush=True)
        return real(self, received, epoch)

    Pretraining.micro_batch = noted  # type: ignore[method-assign]
    loop.Batches = Counted


def put_into_steps(loop: Any, faults: Faults) -> None:
    """Faults before a step, in its backward pass and in its all-reduce."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
    from torch.nn.parallel import DistributedDataParallel

    train_step, replicate = loop.train_step, loop.replicate

    def stepping(*words: Any) -> Any:
        faults.meet("step")
        return train_step(*words)

    def travelling(group, bucket):  # DDP looks at the hints
        faults.meet("all_reduce")
        return allreduce_hook(group, bucket)

    def replicating(model: Any, *words: Any) -> Any:
        parameters = [p for p in model.parameters() if p.requires_grad]
        parameters[len(parameters) // 2].register_hook(faults.in_backward)
        replicas = replicate(model, *words)
        if isinstance(replicas, DistributedDataParallel):
            replicas.register_comm_hook(None, travelling)
        return replicas

    loop.train_step, loop.replicate = stepping, replicating


def put_into_records(faults: Faults) -> None:
    """Faults while a row is made, and before a checkpoint is complete."""
    from mimray.train.recorder import Recorder
    from mimray.train.run_folder import RunFolder

    report, write = Recorder._row, RunFolder.write

    def reporting(self: Recorder) -> dict[str, Any]:
        faults.meet("report")
        return report(self)

    def writing(self: RunFolder, name: str, data: bytes) -> None:
        if name.endswith("manifest.json"):  # written beside the steps that follow
            faults.meet("save", int(Path(name).parent.name.removeprefix("step-")))
        write(self, name, data)

    Recorder._row, RunFolder.write = reporting, writing  # type: ignore[method-assign]


if __name__ == "__main__":
    from mimray import cli
    from mimray.train import loop
    from tests.faults import injected  # by name, so that trainers find what they are sent

    loop.train = injected.train
    sys.exit(cli.main(sys.argv[1:]))
