"""What a heavier head costs: a training step of Swin-B at 192 px, relative to the linear head.

The step is SimMIM's: forward, backward, clip and AdamW on 192 px pictures with 60 % hidden in units of
32 px. All heads share one encoder, each has an optimiser of its own, and rounds take the heads in turn.
Beside the measured ratios stand those of the floating-point operations, and the paper's (table 4).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._report import Figure, report
from mimray.mim.build import assemble
from mimray.mim.encoders import build_encoder
from mimray.mim.masks import draw
from mimray.mim.model import MaskedImageModel
from mimray.mim.step import MicroBatch, train_step
from mimray.mim.targets import build_target
from mimray.recipe import Head, TargetSettings

SIZE, WINDOW, CLIP = 192, 6, 5.0
PAPER = {"linear": 1.0, "mlp": 1.2, "inverse_swin_tiny": 1.7, "inverse_swin_base": 2.3}
"""SimMIM, table 4: training cost relative to the linear head's."""


def models() -> dict[str, MaskedImageModel]:
    """Swin-B with each head, on torch's default device."""
    encoder = build_encoder("swin_base", SIZE, WINDOW)
    side = SIZE // encoder.stride
    target = build_target(TargetSettings(), SIZE)
    return {kind: assemble(encoder, target, (side, side), Head(kind=kind)) for kind in PAPER}


def flops() -> dict[str, float]:
    """Floating-point operations of forward and backward for one picture, counted on no device."""
    counts = {}
    with torch.device("meta"):
        for kind, model in models().items():
            images = torch.empty(1, 3, SIZE, SIZE)
            hidden = torch.empty(1, SIZE // model.patch, SIZE // model.patch, dtype=torch.bool)
            with FlopCounterMode(display=False) as counter:
                model(images, hidden, torch.zeros(1, dtype=torch.int64)).loss.backward()
            counts[kind] = float(counter.get_total_flops())
    return counts


def seconds(device: torch.device, batch: int, rounds: int) -> dict[str, float]:
    """Median seconds of a training step with each head."""
    torch.manual_seed(0)
    with device:
        steps = {kind: step_of(model, batch) for kind, model in models().items()}
    times: dict[str, list[float]] = {kind: [] for kind in steps}
    for number in range(rounds + 1):
        for kind, step in steps.items():
            began = time.perf_counter()
            step()
            if number:  # the first round allocates the optimisers' moments
                times[kind].append(time.perf_counter() - began)
    return {kind: statistics.median(of) for kind, of in times.items()}


def step_of(model: MaskedImageModel, batch: int) -> Callable[[], None]:
    """A training step of `model`, ended when the device has done it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    seeds = torch.arange(batch)
    hidden = draw("random", SIZE, 32, model.patch, 0.6, seeds)
    micro = MicroBatch(torch.randn(batch, 3, SIZE, SIZE), hidden, seeds, torch.ones(batch))
    bf16 = seeds.is_cuda

    def step() -> None:
        train_step(model, optimizer, [micro], CLIP, bf16).error.item()

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch", type=int, help="pictures a step; 2 on a CPU, 128 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = arguments.batch or (128 if device.type == "cuda" else 2)
    times, counts = seconds(device, batch, arguments.rounds), flops()
    figures = {
        kind: Figure(
            ratio=paper * times["linear"] / times[kind],
            target=0.0,  # a comparison: the paper's hardware was another
            ours=times[kind] / times["linear"],
            theirs=paper,
            unit="of linear's step",
        )
        for kind, paper in PAPER.items()
    }
    report(
        "heads",
        figures,
        arguments.json,
        flop_ratio={kind: count / counts["linear"] for kind, count in counts.items()},
        seconds=times,
        batch=batch,
        device=device.type,
    )


if __name__ == "__main__":
    main()
