"""How MLflow's pages show a study."""

from __future__ import annotations

from mimray.study.parent_copy import ParentCopy
from mimray.study.scaling.cells import Laid, said
from mimray.study.scaling.folder import StudyFolder


def study_copy(laid: Laid, folder: StudyFolder) -> ParentCopy:
    """A run of the study's name, below which its cells lie, and fine-tunings below these."""
    study = laid.study
    params = {
        "recipe": study.recipe,
        "encoders": " ".join(study.encoders),
        "subsets": ", ".join(study.subsets),
        "lengths": " ".join(map(str, study.lengths)),
        "cells": str(len(laid.cells)),
    }
    return ParentCopy(folder, params, laid.cells[0].recipe.run, said)
