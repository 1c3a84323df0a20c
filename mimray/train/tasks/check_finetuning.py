"""What can be known to be wrong about a fine-tuning before Ray starts: names, sizes, labels, weights."""

from __future__ import annotations

import numpy as np
import torch

from mimray.data.collections.check import check_pair, check_split
from mimray.data.collections.listed import MultiLabelSource
from mimray.data.rowset import RowSet
from mimray.data.sources import Source
from mimray.data.subset import choose
from mimray.errors import UserError
from mimray.mim.encoders import ENCODERS
from mimray.mim.recomputing import check_stages
from mimray.recipe import FinetuneRecipe
from mimray.settings_errors import nearest
from mimray.shares import labels_share
from mimray.train.tasks.classification import Classification


def check_names(recipe: FinetuneRecipe) -> None:
    """Raises UserError for an unknown encoder, and for windows where there are none."""
    model = recipe.model
    if model.encoder not in ENCODERS:
        raise UserError(
            f"model.encoder={model.encoder} is not known{nearest(model.encoder, list(ENCODERS))}"
        )
    if model.window is not None and ENCODERS[model.encoder].window is None:
        raise UserError(
            f"model.window={model.window}: {model.encoder} has no windows; leave it out "
            "(model.window=null)"
        )
    if model.pretrained_windows is not None and ENCODERS[model.encoder].family != "swinv2":
        raise UserError(
            f"model.pretrained_windows={list(model.pretrained_windows)}: scales the position bias of a "
            f"SwinV2, and {model.encoder} is none; leave it out (model.pretrained_windows=null)"
        )
    if model.visible_only:
        raise UserError(
            "model.visible_only is of pre-training, where something is hidden; leave it out"
        )


def open_labels(
    recipe: FinetuneRecipe, train: Source, val: Source, rows: RowSet
) -> tuple[Classification, RowSet]:
    """The task, and which of `rows` are trained on with `data.labels`.

    Raises UserError where labels are missing, several to a picture, out of range, or differ between the
    splits, and where the splits do not.
    """
    for source in (train, val):
        if isinstance(source, MultiLabelSource):
            raise UserError(
                f"{source.uri}: its pictures have several labels, on which mimray does not fine-tune; take "
                f"`evaluate linear`"
            )
    classes = check_pair(train, val) if val is not train else len(check_split(train))
    if recipe.data.labels is not None:
        rows = rows.within(choose(train, labels_share(recipe.data.labels), stratified=True))
    labels = _labels(train)
    empty = np.flatnonzero(np.bincount(labels[rows.rows()], minlength=classes) == 0)
    if empty.size:
        names = train.classes or [str(c) for c in range(classes)]
        raise UserError(
            f"{train.uri}: no picture of class {names[empty[0]]!r} is left to train on ({empty.size} of "
            f"{classes} classes); take more with data.labels or data.subset, or name data.val"
        )
    return Classification(recipe, classes, labels, _labels(val)), rows


def _labels(source: Source) -> np.ndarray:
    labels = source.labels()
    assert labels is not None, "check_split asks for them"
    return labels.astype(np.int32)


def check_classifier(task: Classification) -> None:
    """Raises UserError for a size that the encoder cannot take, and for weights of another encoder: the
    model is built and filled once, on this host."""
    recipe = task.recipe
    try:
        task.framing(training=True)  # refuses a notation of RandAugment that timm does not know
        if recipe.model.weights is None:
            with torch.device("meta"):
                model = task.build(fresh=False)
        else:
            model = task.build(fresh=True)
        check_stages(model.encoder, recipe.speed.checkpoint_stages)
        with torch.device("meta"):
            task.optimizer(model)
    except ValueError as error:
        raise UserError(str(error)) from None
