"""What a checkpoint of 1 GB costs the training: swinv2_base's weights and AdamW's moments.

The stall of a step beside that of a blocking `torch.save` with fsync, in turns; and all that a checkpoint
takes from the steps, its writing beside them included, at one in ten minutes: as many steps with a
checkpoint as without, in turns. Medians. On a GPU where there is one, else on the CPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks._report import Figure, report
from mimray.mim.build import build_model
from mimray.mim.masks import draw
from mimray.mim.step import MicroBatch, train_step
from mimray.optim import build_optimizer
from mimray.recipe import Mask, Model, Optim, Recipe
from mimray.train.run_folder import RunFolder
from mimray.train.saver import Saver

ENCODER = "swinv2_base"
ROUNDS, COST_ROUNDS = 5, 5
SIZE, BATCH = {"cpu": 64, "cuda": 192}, {"cpu": 1, "cuda": 64}
STEPS = {"cpu": 12, "cuda": 40}  # longer than a checkpoint is being written
STALL_TARGET = {"cpu": 5.0, "cuda": 20.0}
INTERVAL, SHARE = 600.0, 0.005  # seconds between checkpoints, and what they may cost of them


class Training:
    """A model whose optimiser has moments, and steps to take."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.device, size = device, SIZE[device]
        recipe = Recipe(model=Model(encoder=ENCODER, image_size=size), mask=Mask(unit=32))
        self.model = build_model(recipe).to(device).train()
        self.optimizer = build_optimizer(self.model, Optim())
        seeds = torch.arange(BATCH[device], device=device)
        hidden = draw("random", size, 32, self.model.patch, 0.6, seeds)
        images = torch.randn(len(seeds), 3, size, size, device=device)
        self.batch = [MicroBatch(images, hidden, seeds, torch.ones(len(seeds), device=device))]
        self.step()

    def step(self) -> None:
        """One update."""
        train_step(self.model, self.optimizer, self.batch, 5.0, bf16=self.device == "cuda")

    def seconds(self, work: Callable[[], object]) -> float:
        """How long something takes, the device's part included."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def bytes(self) -> int:
        """Size of the state."""
        return 3 * sum(p.nbytes for p in self.model.parameters())


def blocking_save(training: Training, path: Path) -> None:
    """What a plain loop does."""
    state = {
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


class Checkpoints:
    """Ours, one after another."""

    def __init__(self, training: Training, folder: Path) -> None:
        self.training = training
        self.saver = Saver(RunFolder(str(folder / "run")), keep=1)
        self.step = 0

    def begin(self) -> None:
        """What the step waits for."""
        self.step += 1
        self.saver.save(self.step, self.training.model, self.training.optimizer, {}, None)

    def end(self) -> None:
        """Wait until it is complete, and the one before removed."""
        self.saver.close(self.step)


def stalls(training: Training, checkpoints: Checkpoints, folder: Path) -> dict[str, list[float]]:
    """Seconds, by what was measured; the first stall of ours takes the memory for the copies too."""
    found: dict[str, list[float]] = {"first": [], "ours": [], "theirs": [], "complete": []}
    for number in range(ROUNDS + 1):
        stall = training.seconds(checkpoints.begin)
        rest = training.seconds(checkpoints.end)
        blocking = training.seconds(lambda: blocking_save(training, folder / "theirs.pt"))
        if number:
            found["ours"].append(stall)
            found["theirs"].append(blocking)
            found["complete"].append(stall + rest)
        else:
            found["first"].append(stall)
    (folder / "theirs.pt").unlink()
    return found


def lost(training: Training, checkpoints: Checkpoints) -> tuple[float, float]:
    """Seconds that a checkpoint takes from the steps, and those of a step without."""

    def steps() -> None:
        for _ in range(STEPS[training.device]):
            training.step()

    def steps_and_checkpoint() -> None:
        checkpoints.begin()
        steps()
        checkpoints.end()  # what is not yet written counts as a stall

    steps()
    differences, alone = [], []
    for _ in range(COST_ROUNDS):
        alone.append(training.seconds(steps))
        differences.append(training.seconds(steps_and_checkpoint) - alone[-1])
    return statistics.median(differences), statistics.median(alone) / STEPS[training.device]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", help="where to write; the system's place when not given")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = Training(device)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        checkpoints = Checkpoints(training, Path(name))
        found = {
            what: statistics.median(seconds)
            for what, seconds in stalls(training, checkpoints, Path(name)).items()
        }
        cost, step = lost(training, checkpoints)
    figures = {
        "stall of a step": Figure(
            ratio=found["theirs"] / found["ours"],
            target=STALL_TARGET[device],
            ours=found["ours"],
            theirs=found["theirs"],
            unit="s",
        ),
        "all, one in ten minutes": Figure(
            ratio=SHARE / max(cost / INTERVAL, 1e-6),
            target=1.0,
            ours=100 * cost / INTERVAL,
            theirs=100 * SHARE,
            unit="% of the time",
        ),
    }
    more = {
        "device": device,
        "gigabytes": round(training.bytes() / 1e9, 3),
        "first stall, s": round(found["first"], 3),
        "complete after, s": round(found["complete"], 2),
        "lost to a checkpoint, s": round(cost, 3),
        "step, s": round(step, 3),
    }
    report("checkpoint", figures, arguments.json, **more)


if __name__ == "__main__":
    main()
