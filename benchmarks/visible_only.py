"""A training step that skips hidden tokens, beside SimMIM's dense one on the same pictures and masks.

Dense is the encoder over all tokens with the linear head; ours is `model.visible_only` with the
transformer head of one block. A step is forward, backward, clip and AdamW. On a CPU in float32, CPU time
of one thread; on a GPU, where there is one, in bfloat16, by the clock. Rounds in turn; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._report import Figure, report
from mimray.mim.build import build_model
from mimray.mim.masks import draw
from mimray.mim.step import MicroBatch, train_step
from mimray.recipe import Head, Mask, Model, Recipe

ROUNDS = {"cpu": 5, "cuda": 20}
BATCH = {"cpu": 4, "cuda": 128}


@dataclass(frozen=True)
class Case:
    """An encoder and a mask; least ratios of time on a CPU and a GPU, and of peak memory (0: none)."""

    encoder: str
    size: int
    window: int | None
    ratio: float
    cpu: float
    gpu: float
    memory: float

    @property
    def name(self) -> str:
        return f"{self.encoder}_{self.ratio:.0%}".rstrip("%")


CASES = (
    Case("vit_base", 224, None, 0.75, 2.5, 3.0, 2.0),
    Case("swin_base", 192, 6, 0.6, 1.8, 2.0, 0.0),
    Case("swin_base", 192, 6, 0.75, 1.8, 2.0, 0.0),
)
Step = Callable[[], object]


def training_step(case: Case, visible_only: bool, device: str) -> Step:
    """A model with its optimiser and batch, ready to make one step after the other."""
    torch.manual_seed(0)
    recipe = Recipe(
        model=Model(
            encoder=case.encoder,
            image_size=case.size,
            window=case.window,
            visible_only=visible_only,
        ),
        mask=Mask(unit=32, ratio=case.ratio),
        head=Head(kind="transformer" if visible_only else "linear"),
    )
    model = build_model(recipe).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = BATCH[device]
    seeds = torch.arange(batch, device=device)
    hidden = draw("random", case.size, 32, model.patch, case.ratio, seeds)
    images = torch.randn(batch, 3, case.size, case.size, device=device)
    micro = MicroBatch(images, hidden, seeds, torch.ones(batch, device=device))
    return lambda: train_step(model, optimizer, [micro], 5.0, device == "cuda")


def flops(step: Step) -> int:
    """Floating-point operations of one step, by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def seconds(step: Step, device: str) -> float:
    """Of one step."""
    if device == "cpu":
        began = time.process_time()
        step()
        return time.process_time() - began
    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_mib(case: Case, visible_only: bool) -> float:
    """GPU memory that a model alone takes at most in a step, MiB."""
    step = training_step(case, visible_only, "cuda")
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**20


def compare(case: Case, device: str) -> tuple[Figure, float]:
    """Rates of both, and dense / visible-only operations."""
    steps = [training_step(case, visible_only, device) for visible_only in (True, False)]
    ours, theirs = (flops(step) for step in steps)
    rounds = [[seconds(step, device) for step in steps] for _ in range(ROUNDS[device] + 1)]
    quick, slow = (statistics.median(times) for times in zip(*rounds[1:], strict=True))
    figure = Figure(
        ratio=slow / quick,
        target=case.cpu if device == "cpu" else case.gpu,
        ours=BATCH[device] / quick,
        theirs=BATCH[device] / slow,
        unit="images/CPU-s" if device == "cpu" else "images/s",
    )
    return figure, round(theirs / ours, 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Figure] = {}
    operations: dict[str, float] = {}
    for case in CASES:
        figures[f"{case.name}_cpu"], operations[case.name] = compare(case, "cpu")
        if not torch.cuda.is_available():
            continue
        ours, theirs = peak_mib(case, True), peak_mib(case, False)
        figures[f"{case.name}_gpu_memory"] = Figure(
            ratio=theirs / ours, target=case.memory, ours=ours, theirs=theirs, unit="MiB"
        )
        figures[f"{case.name}_gpu"], _ = compare(case, "cuda")
    report("visible_only", figures, arguments.json, flop_ratio=operations)


if __name__ == "__main__":
    main()
