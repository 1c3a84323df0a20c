"""A cell's loss on validation pictures and on as many of its training pictures, by the same code.

What a run notes while it trains is the loss of other crops and masks at every step, so it does not compare
with that of validation. Here both kinds of pictures are cut in the same way, each has masks of its own that
are the same for all cells, and the model is the one at the end. The third paper tells over-fitting by the
two (On Data Scaling in MIM, section 4).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimray.data.rowset import RowSet
from mimray.data.subset import digest
from mimray.errors import UserError
from mimray.hashing import Purpose, key
from mimray.study.cell import Cell
from mimray.study.scaling.cells import said
from mimray.study.scaling.steps import Drawings, Place, Shown, Values
from mimray.train.parent import run_behind, tell_parent
from mimray.train.run_folder import RunFolder, to_json

FILE, FIGURE = "losses.json", "figures/train_and_val.png"
_SHOWN = 4  # pictures of each kind
_FORWARD = 1 / 3  # of a training step's operations


@dataclass(frozen=True)
class LossesStep:
    """Satisfies `Step`. `count`: training pictures that are looked at, at most, for all cells the same;
    `val`: validation pictures."""

    count: int
    val: int
    name = "losses"
    columns = ("val_loss", "train_loss", "val_skill")

    def check(self, cells: Sequence[Cell]) -> None:
        local = RunFolder.of(cells[0].recipe)
        if not local.local:
            raise UserError(
                f"run.storage={local.uri}: a study reads its runs' files back, and this is no folder; name "
                f"one that all hosts share"
            )

    def training(self, cell: Cell) -> None:
        return None

    def measure(self, cell: Cell, place: Place, drawings: Drawings) -> None:
        import torch

        from mimray.evaluate.picture_losses import picture_losses
        from mimray.train.prepare import open_data

        run, began = RunFolder.of(cell.recipe), time.time()
        job = open_data(cell.recipe)
        rows = compared(job.rows, self.count)
        model = _model(run, cell).to(place.share.device)
        found: dict[str, Any] = {}
        for name, source, chosen in (
            ("val", job.val_source, job.val_rows),
            ("train", job.train_source, rows),
        ):
            losses = picture_losses(
                model, cell.recipe, source, chosen, place.share.device, torch.get_num_threads()
            )
            if not np.isfinite(losses.loss).all():
                raise UserError(f"{run.uri}: its losses are not finite; has it diverged?")
            found[name] = {
                "loss": losses.mean,
                "skill": _skill(losses.fill, losses.weight, losses.mean),
                "pictures": len(losses.rows),
                "unreadable": losses.unreadable,
            }
        shown = [
            Shown("training", job.train_source, rows[:_SHOWN]),
            Shown("validation", job.val_source, job.val_rows[_spread(len(job.val_rows), _SHOWN)]),
        ]
        figure = drawings.sheet(model, cell.recipe, said(cell), shown)
        if figure is not None:
            run.write(FIGURE, figure)
        asked = {"asked": self.count, "rows": digest(RowSet.of(rows, job.rows.size))}
        record = run.record() or {}
        now = time.time()
        about = {"steps": record.get("steps"), "time": now, "seconds": now - began}
        run.write(FILE, to_json(found | asked | about, indent=2).encode() + b"\n")
        scores = {f"study/{name}_loss": found[name]["loss"] for name in found}
        tell_parent(run.path, scores, now)

    def values(self, cell: Cell) -> Values | None:
        run = RunFolder.of(cell.recipe)
        data = run.read(FILE)
        if data is None:
            return None
        try:
            told = json.loads(data)
            if told["asked"] != self.count:  # of a study with other subsets
                return None
            val, train = told["val"], told["train"]
            return {"val_loss": val["loss"], "train_loss": train["loss"], "val_skill": val["skill"]}
        except (ValueError, LookupError, TypeError):
            raise UserError(f"{run.uri}/{FILE} is damaged; remove it") from None

    def pictures(self, cell: Cell) -> float:
        return _FORWARD * (self.count + self.val)


def compared(rows: RowSet, count: int) -> np.ndarray:
    """At most `count` of the training pictures, the first in an order in which subsets of one source are
    chosen: shares that nest have the same ones. int64, in that order."""
    members = rows.rows()
    order = np.argsort(key(Purpose.SUBSET, 0, members), kind="stable")
    return np.asarray(members[order[:count]])


def _spread(count: int, wanted: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _skill(fill: np.ndarray, weight: np.ndarray, loss: float) -> float | None:
    """Of all pictures together; None for a target that is classified, or pictures of one colour."""
    from mimray.mim.masked_losses import skill

    nearest = float((fill * weight).sum() / weight.sum())
    worth = skill(loss, nearest)
    return None if np.isnan(worth) else worth


def _model(run: RunFolder, cell: Cell) -> Any:
    """The cell's, filled from its newest checkpoint, in evaluation mode."""
    from mimray.mim.build import build_model
    from mimray.train.tasks.starting_weights import found_at, locate
    from mimray.weights import load

    assert run_behind(run.uri) is not None, "its run is finished"
    try:
        model = build_model(cell.recipe)
        report = load(model, locate(found_at(run.uri) or run.uri))
    except ValueError as error:
        raise UserError(str(error)) from None
    if report.missing:
        raise UserError(f"{run.uri}: does not hold {next(iter(report.missing))}")
    return model.eval()
