"""What a study will take, before it starts: hours of GPUs, or of cores, for each cell and in all.

From measured pictures a second where a finished cell of the same encoder has them, or a short measurement;
else from the model's operations and a rate that is said. A finished step counts with what it took.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.scaling.account import Need
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.steps import Step, is_finished
from mimray.train.prediction import MFU

START_SECONDS, GROUP_SECONDS = 2.0, 25.0
"""Of a step in a warm process, and of a group of Ray Train (2 CPU cores)."""
MEASURED, OPERATIONS = "measured", "operations"


class Rate(NamedTuple):
    """Pictures a second of a cell's pre-training, all its trainers together, and where that is from."""

    images_per_s: float
    source: str


@dataclass(frozen=True)
class Hours:
    """Of a cell: `steps`, in hours of the clock, by name; `reserved`: GPUs or cores meanwhile."""

    steps: dict[str, float]
    reserved: dict[str, float]
    rate: Rate

    @property
    def clock(self) -> float:
        """From its start to its end."""
        return sum(self.steps.values())

    @property
    def cost(self) -> float:
        """In GPU-hours or core-hours."""
        return sum(hours * self.reserved[name] for name, hours in self.steps.items())

    @property
    def costs(self) -> dict[str, float]:
        """Of each step."""
        return {name: hours * self.reserved[name] for name, hours in self.steps.items()}


NeedOf = Callable[[Cell, Step], Need]


def predict_hours(
    cells: Sequence[Cell],
    steps: Sequence[Step],
    folder: StudyFolder,
    need: NeedOf,
    rates: Mapping[str, Rate],
) -> dict[str, Hours]:
    """By name of the cell's run. `rates`: by name of the encoder. Raises UserError where pictures are not
    there."""
    costs: dict[tuple[str, str], float] = {}  # pictures hang on the encoder and the length alone
    found = {}
    for cell in cells:
        rate = rates[cell.values["model"]]
        hours, reserved = {}, {}
        for step in steps:
            asked = need(cell, step)
            noted = folder.seconds.get(cell.name, {}).get(step.name, {})
            which = (cell.values["model"], f"{step.name} {cell.values['iterations']}")
            if which not in costs:
                costs[which] = step.pictures(cell)
            start = START_SECONDS if asked.layout is None else GROUP_SECONDS
            seconds = start + costs[which] / rate.images_per_s
            if "seconds" in noted and is_finished(step, cell):
                seconds = noted["seconds"]
            hours[step.name] = seconds / 3600
            reserved[step.name] = asked.gpus or asked.cpus
        found[cell.name] = Hours(hours, reserved, rate)
    return found


def unit_of(needs: Sequence[Need]) -> str:
    """What is scarce: GPUs, where cells ask for them."""
    return "GPU-hours" if any(need.gpus for need in needs) else "core-hours"


# ----- pictures a second ----------------------------------------------------------------------------------


def known_rates(cells: Sequence[Cell]) -> dict[str, Rate]:
    """By name of the encoder, from the runs of this study that are finished."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        try:
            record = cell.record()
        except UserError:
            continue
        rate = None if record is None else record["final"].get("images_per_s")
        if record is not None and record["status"] == "finished" and rate:
            found.setdefault(cell.values["model"], []).append(float(rate))
    return {name: Rate(sum(rates) / len(rates), MEASURED) for name, rates in found.items()}


def rates_by_operations(
    cells: Sequence[Cell], flops_per_s: float | None, need: Callable[[Cell], Need]
) -> dict[str, Rate]:
    """The same from the models' operations, at a share of `MFU` of a rate of matrix products.

    `flops_per_s`: of one GPU, or of one trainer's CPUs; what this host's device does when not given.
    """
    from mimray.mim.costs import count_flops

    found: dict[str, Rate] = {}
    known: dict[str, float] = {}
    for cell in {cell.values["model"]: cell for cell in reversed(cells)}.values():
        told = json.dumps([cell.recipe.model.model_dump(), cell.recipe.mask.model_dump()])
        if told not in known:
            known[told] = count_flops(cell.recipe).training
        asked = need(cell)
        one = flops_per_s or _of_this_host(cell, asked)
        trainers = 1 if asked.layout is None else asked.layout.workers
        found[cell.values["model"]] = Rate(MFU * one * trainers / known[told], OPERATIONS)
    return found


_MATRIX: dict[tuple[str, bool, int], float] = {}


def _of_this_host(cell: Cell, need: Need) -> float:
    """Operations a second in matrix products of the device that the cell would get."""
    import torch

    from mimray.mim.costs import matrix_rate
    from mimray.train.group import use_bf16

    device = torch.device("cuda" if need.gpus and torch.cuda.is_available() else "cpu")
    bf16 = use_bf16(cell.recipe, device)
    which = (device.type, bf16, need.share.threads)
    if which not in _MATRIX:
        before = torch.get_num_threads()
        torch.set_num_threads(need.share.threads)
        _MATRIX[which] = matrix_rate(device, bf16)
        torch.set_num_threads(before)
    return _MATRIX[which]


def measured_rates(cells: Sequence[Cell], measure: Step) -> dict[str, Rate]:
    """By name of the encoder, where a short run was measured."""
    found = {}
    for cell in cells:
        values = measure.values(cell)
        if values is not None and (rate := values["images_per_s"]):
            found[cell.values["model"]] = Rate(rate, MEASURED)
    return found
