"""One combination of settings, of a sweep or a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mimray.errors import UserError
from mimray.recipe import Recipe
from mimray.train.run_folder import RunFolder


@dataclass(frozen=True)
class Cell:
    """One combination: its values by setting, and the recipe that runs it."""

    values: dict[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Of its run."""
        return self.recipe.run_name()

    @property
    def words(self) -> str:
        """For people."""
        return " ".join(f"{k}={v}" for k, v in self.values.items())

    def setting(self, name: str) -> Any:
        """What the recipe has for a dotted name, be it of this cell's grid or of another's."""
        section, _, key = name.partition(".")
        return getattr(getattr(self.recipe, section), key)

    def record(self) -> dict[str, Any] | None:
        """`run.json`, or None where it has not begun. Raises UserError for a damaged one."""
        return RunFolder.of(self.recipe).record()


def has_begun(cell: Cell) -> bool:
    """Whether its run has a record, be it a damaged one."""
    try:
        return cell.record() is not None
    except UserError:
        return True
