"""Top-1 of a cell's frozen features, as sweeps rank trials by it and studies have it for a task."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mimray.data.collections import check_pair, open_pictures
from mimray.errors import UserError
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.frozen import Draw, Question, Record, absolute_data, read_record
from mimray.evaluate.probing import Kind
from mimray.evaluate.workers import Here, Say, Share
from mimray.study.cell import Cell
from mimray.study.placing import storage_of
from mimray.train.run_folder import RunFolder


@dataclass(frozen=True)
class FrozenTop1:
    """Of the last layer's pooled features. `train`, `val`: URIs of pictures with labels, to learn from and
    to test on, turned upright where the cell's are."""

    kind: Kind
    train: str
    val: str

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises UserError for pictures that cannot be classified, and for those that are others than a
        cell was scored on: it would stand beside cells that it does not compare with."""
        uris = {"train": self.train, "val": self.val}
        train, test = open_pictures(self.train, "train"), open_pictures(self.val, "val")
        check_pair(train, test)
        now = {"train": train.digest, "val": test.digest}
        for cell in cells:
            scored = self._scored_on(cell)
            if others := [uris[split] for split in scored if scored[split] != now[split]]:
                raise UserError(
                    f"run {cell.name} ({cell.words}) was scored on other pictures than {others[0]} holds "
                    f"now; bring them back as they were, or take another name or run.storage"
                )

    def _scored_on(self, cell: Cell) -> dict[str, str]:
        """Digests by split. None where nothing was scored, or the record has none and is taken as it is."""
        try:
            record = self._record(cell)
        except UserError:  # damaged: a failure of that cell alone
            return {}
        digests = {} if record is None else record.get("digests", {})
        return {split: digests[split]["source"] for split in ("train", "val") if split in digests}

    def measure(self, cell: Cell, share: Share, draw: Draw, say: Say) -> None:
        """What is still to be computed, in this process. Raises UserError or RunFailed."""
        asked = Question(
            self.kind,
            open_checkpoint(RunFolder.of(cell.recipe).uri),
            absolute_data(self.train),
            absolute_data(self.val),
            Path(storage_of(cell)),
            layers="last",
            upright=cell.recipe.data.upright,
            name=self.name(cell),
        )
        asked.answer(draw, say, lambda: nullcontext(Here(share)))

    def value(self, cell: Cell) -> float | None:
        """A share of 1, from the record alone; None where there is none. Raises UserError for a damaged
        one."""
        record = self._record(cell)
        return None if record is None else record["chosen"]["top1"]

    def name(self, cell: Cell) -> str:
        """Of the record's folder. The URIs go into it as they stand here."""
        told = " ".join([self.train, self.val, *["upright"] * cell.recipe.data.upright])
        return f"{cell.name}-{self.kind}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def _record(self, cell: Cell) -> Record | None:
        return read_record(Path(storage_of(cell)) / "evaluate" / self.name(cell))
