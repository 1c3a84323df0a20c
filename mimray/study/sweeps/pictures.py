"""Which pictures a sweep's trials are fine-tuned and tested on: none that nobody has named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mimray.errors import UserError
from mimray.evaluate.frozen import absolute_data
from mimray.recipe import load_finetune_recipe
from mimray.study.cell import Cell
from mimray.study.sweeps.sweep import Finetune

_WRITE = "write finetune: {set: {data.train: URI, data.val: URI}}"


def on_named_pictures(settings: Finetune, cells: Sequence[Cell]) -> Finetune:
    """The settings with the pictures of the pre-training where they name no others.

    Where cells differ in them, or name none to test on, only the settings can say: who is fine-tuned and
    tested on other pictures does not compare. Raises UserError where the fine-tuning recipe's own would be
    taken, and the sweep is of others.
    """
    known = {(data.train, data.val, data.upright) for data in (cell.recipe.data for cell in cells)}
    train, val, upright = next(iter(known))
    one_way = len({way for *_, way in known}) == 1
    own: dict[str, Any] = {"data.upright": upright} if one_way and _names(settings) else {}
    if len(known) == 1 and (val is not None or _names(settings) == {"data.val"}):
        own = {"data.train": train, "data.val": val, "data.upright": upright}
    elif "data.train" not in _names(settings):
        _check_own(settings, cells, len(known) > 1)
    return settings.model_copy(update={"set": own | settings.set})


def said(train: str, val: str | None) -> str:
    """For people, of a fine-tuning."""
    return f"fine-tuned on {train}, tested on {val or 'pictures held out from it'}"


def _names(settings: Finetune) -> set[str]:
    return {"data.train", "data.val"} & set(settings.set)


def _check_own(settings: Finetune, cells: Sequence[Cell], differ: bool) -> None:
    """Raises UserError where the pictures of a cell are not those of the fine-tuning recipe."""
    own = load_finetune_recipe(settings.recipe).data
    of_recipe = {absolute_data(uri) for uri in (own.train, own.val) if uri is not None}
    for data in (cell.recipe.data for cell in cells):
        of_cell = {absolute_data(uri) for uri in (data.train, data.val) if uri is not None}
        if of_cell <= of_recipe:
            continue
        if differ:
            why, mend = "trials differ in their pictures", _WRITE
        else:
            why, mend = f"data.train={data.train} is without data.val", f"set data.val, or {_WRITE}"
        raise UserError(
            f"objective=finetune: {why}, so {settings.recipe} would fine-tune on pictures of its own, "
            f"{own.train}; {mend}"
        )
