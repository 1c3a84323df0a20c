"""The cells that a budget pays for: chosen once, so that the same command goes on with the same ones."""

from __future__ import annotations

from collections.abc import Sequence

from mimray.errors import UserError
from mimray.study.cell import Cell
from mimray.study.scaling.cells import Laid
from mimray.study.scaling.design import choose, slopes
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.hours import Hours
from mimray.study.scaling.steps import Step


def choose_cells(
    laid: Laid,
    folder: StudyFolder,
    hours: dict[str, Hours],
    budget: float | None,
    steps: Sequence[Step],
) -> None:
    """Note in `folder` which cells are run; without a budget all. Cells that are finished count with what
    they took; of several seeds all or none. Raises UserError where the budget pays for no cell."""
    known = {cell.name for cell in laid.cells}
    if budget == folder.budget and (folder.chosen is None or set(folder.chosen) <= known):
        return
    folder.budget, folder.chosen = budget, None
    if budget is None:
        return
    cells: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in laid.cells:
        values = cell.values
        cells.setdefault((values["model"], values["data"], values["iterations"]), []).append(cell)
    costs = [sum(hours[cell.name].cost for cell in own) for own in cells.values()]
    over = [n for n, own in enumerate(cells.values()) if all(_is_finished(c, steps) for c in own)]
    sizes = [
        {
            "data": float(folder.images[data]),
            "model": float(folder.params[model]),
            "length": float(length),
        }
        for model, data, length in cells
    ]
    pairs, lengths = [which[:2] for which in cells], [which[2] for which in cells]
    taken = choose(slopes(sizes), costs, pairs, lengths, budget, over)
    if not taken:
        raise UserError(
            f"--budget {budget:g}: no pair of a model and its data fits with its two shortest lengths; the "
            f"cheapest cell is predicted to take {min(costs):.3g} {folder.unit}"
        )
    members = list(cells.values())
    folder.chosen = [cell.name for number in taken for cell in members[number]]


def _is_finished(cell: Cell, steps: Sequence[Step]) -> bool:
    try:
        return all(step.values(cell) is not None for step in steps)
    except UserError:
        return False
