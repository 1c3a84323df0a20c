"""The cells that a budget pays for: chosen once, so that the same command goes on with the same ones."""

from __future__ import annotations

from mimray.errors import UserError
from mimray.study.cell import Cell, has_begun
from mimray.study.scaling.cells import Laid
from mimray.study.scaling.design import choose, slopes
from mimray.study.scaling.folder import StudyFolder
from mimray.study.scaling.hours import Hours


def choose_cells(
    laid: Laid, folder: StudyFolder, hours: dict[str, Hours], budget: float | None
) -> None:
    """Note in `folder` which cells are run; without a budget all. Of several seeds all or none.

    Cells that have begun are among them whatever the budget, for half a training tells nothing, and those
    that a smaller budget has paid for. Raises UserError where the budget pays for no cell.
    """
    known = {cell.name for cell in laid.cells}
    if budget == folder.budget and (folder.chosen is None or set(folder.chosen) <= known):
        return
    before, kept = folder.budget, set(folder.chosen or ())
    folder.budget, folder.chosen = budget, None
    if budget is None:
        return
    if before is None or budget < before:
        kept = set()
    cells: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in laid.cells:
        values = cell.values
        cells.setdefault((values["model"], values["data"], values["iterations"]), []).append(cell)
    costs = [sum(hours[cell.name].cost for cell in own) for own in cells.values()]
    over = [
        number
        for number, own in enumerate(cells.values())
        if any(cell.name in kept or has_begun(cell) for cell in own)
    ]
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
