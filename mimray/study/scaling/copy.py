"""MLflow's copy of a study: a run of its own, below which its cells lie, and fine-tunings below these."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mimray.study.scaling.cells import Laid
from mimray.study.scaling.folder import StudyFolder
from mimray.study.sweep_copy import SweepCopy
from mimray.tracking import Copy, Head
from mimray.train.parent import store_of


class StudyCopy(SweepCopy):
    """As that of a sweep, under another head."""

    def __init__(self, laid: Laid, folder: StudyFolder) -> None:
        study, run = laid.study, laid.cells[0].recipe.run
        self.folder = folder  # type: ignore[assignment]  # what is asked of it, both have
        self.uri = store_of({"run": {"tracking": run.tracking}})
        self.head = Head(
            uid=folder.uid,
            uri=self.uri,
            experiment=run.experiment,
            name=study.name,
            params={
                "recipe": study.recipe,
                "encoders": " ".join(study.encoders),
                "subsets": ", ".join(study.subsets),
                "lengths": " ".join(map(str, study.lengths)),
                "cells": str(len(laid.cells)),
            },
            tags={"mimray.kind": "study", "mimray.run_dir": folder.place},
            constants={},
            began=folder.began,
        )
        self._copy: Copy | None = None
        self._adopted: set[str] = set()
        self._pool = ThreadPoolExecutor(1, "tracking")
        self._away = False
        self._do(self._open)
