"""How MLflow's pages show a sweep."""

from __future__ import annotations

from mimray.study.cell import Cell
from mimray.study.parent_copy import ParentCopy
from mimray.study.sweeps.folder import SweepFolder
from mimray.study.sweeps.range import Range
from mimray.study.sweeps.sweep import Sweep


def sweep_copy(sweep: Sweep, cells: list[Cell], folder: SweepFolder) -> ParentCopy:
    """A run of the sweep's name, below which each trial is called by what it varies."""
    asked = {
        "recipe": sweep.recipe,
        "objective": sweep.objective,
        "search": sweep.search,
        "trials": str(len(cells)),
    }
    if folder.pictures is not None:
        asked["pictures"] = folder.pictures
    # not by the settings' own names: in MLflow's table their columns are the trials'
    varied = {f"grid.{name}": _values(sweep, name) for name in sweep.names}
    return ParentCopy(folder, asked | varied, cells[0].recipe.run, _title)


def _title(cell: Cell) -> str:
    """`ratio=0.6 unit=16`; settings whose last words are the same keep their first."""
    lasts = [name.rpartition(".")[2] for name in cell.values]
    return " ".join(
        f"{last if lasts.count(last) == 1 else name}={value}"
        for last, (name, value) in zip(lasts, cell.values.items(), strict=True)
    )


def _values(sweep: Sweep, name: str) -> str:
    given = [grid[name] for grid in sweep.grid if name in grid]
    known = [value for one in given for value in ([one] if isinstance(one, Range) else one)]
    return " ".join(map(str, dict.fromkeys(map(str, known))))
