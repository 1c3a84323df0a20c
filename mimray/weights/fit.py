"""Weights under mimray's names against the tensors of a model: what fits, and what is made to fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mimray.weights import bias_windows
from mimray.weights.formats import Weights
from mimray.weights.remap import Size, resize_embedding, resize_table
from mimray.weights.report import shorten

_TABLE = "relative_position_bias_table"
_SHARED = f"encoder.rel_pos_bias.{_TABLE}"

# Of the encoder, but its other weights mean the same without them: the mask token is learned in masked
# image modeling only, and a fine-tuned ViT is normed after the pooling instead of before.
_MAY_DIFFER = ("encoder.mask_token", "encoder.norm.weight", "encoder.norm.bias")


@dataclass
class Fit:
    """`ready`: what to copy, by names in the model; `resized`, `dropped`, `missing` as in
    `LoadReport`; `clashes`: what makes it another encoder, a phrase each."""

    ready: Weights = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    clashes: list[str] = field(default_factory=list)


def fit(weights: Mapping[str, Tensor], state: Mapping[str, Tensor], encoder: nn.Module) -> Fit:
    """Fit `weights` to `state`, both under mimray's names; `encoder` knows its windows and grid.

    The encoder is filled whole or it clashes. Each other part (head, classifier, ...) is filled where
    the file's has the same names and shapes, and otherwise left as it is.
    """
    result = Fit()
    given, wanted = _by_part(weights), _by_part(state)
    _fit_encoder(result, given.pop("encoder", {}), wanted.pop("encoder"), encoder)
    for part in dict.fromkeys([*given, *wanted]):
        _fit_part(result, part, given.get(part, {}), wanted.get(part, {}))
    return result


def _by_part(weights: Mapping[str, Tensor]) -> dict[str, Weights]:
    parts: dict[str, Weights] = {}
    for name, tensor in weights.items():
        parts.setdefault(name.partition(".")[0], {})[name] = tensor
    return parts


def _fit_part(result: Fit, part: str, given: Weights, wanted: Weights) -> None:
    if {n: t.shape for n, t in given.items()} == {n: t.shape for n, t in wanted.items()}:
        result.ready |= given
        return
    unused = f"the model's {part} is another" if wanted else f"the model has no {part}"
    unfilled = f"the file's {part} is another" if given else "not in the file"
    result.dropped |= dict.fromkeys(given, unused)
    result.missing |= dict.fromkeys(wanted, unfilled)


def _fit_encoder(result: Fit, given: Weights, wanted: Weights, encoder: nn.Module) -> None:
    own_tables = [n for n in wanted if n.startswith("encoder.blocks.") and n.endswith(_TABLE)]
    shared = given.pop(_SHARED) if own_tables and _SHARED in given else None
    if shared is not None:
        given |= dict.fromkeys(own_tables, shared)
    _fit_bias_windows(result, given, wanted)
    _note_absent(result, given, wanted)
    for name in (name for name in wanted if name in given):
        source, target = given[name], wanted[name]
        same = source.shape == target.shape
        fitted = (source, "") if same else _resize(name, source, target, encoder)
        if fitted is None:
            shapes = f"{tuple(source.shape)} in the file and {tuple(target.shape)} in the model"
            if _may_differ(name):
                result.dropped[name] = result.missing[name] = f"is {shapes}"
            else:
                result.clashes.append(f"{name} is {shapes}")
            continue
        result.ready[name], sizes = fitted
        how = [sizes] if sizes else []
        if source is shared:
            how.append("from the table that all blocks share")
        if how:
            result.resized[name] = ", ".join(how)


def _fit_bias_windows(result: Fit, given: Weights, wanted: Weights) -> None:
    """SwinV2's are the model's own: the file's are compared with them, and fill nothing else."""
    found, own = given.pop(bias_windows.NAME, None), wanted.pop(bias_windows.NAME, None)
    if own is None:
        return
    if found is None or found.shape != own.shape:
        found = torch.zeros_like(own)
    found, own = found.cpu(), own.cpu()
    if problem := bias_windows.clash(found, own):
        result.clashes.append(problem)
    elif found.equal(own):
        result.ready[bias_windows.NAME] = found
    else:
        result.missing[bias_windows.NAME] = bias_windows.doubt(own)


def _note_absent(result: Fit, given: Weights, wanted: Weights) -> None:
    """Names that only one of the two encoders has: noted where that is fine, else a clash."""
    unused = [name for name in given if name not in wanted]
    unfilled = [name for name in wanted if name not in given]
    result.dropped |= {name: "the model has none" for name in unused if _may_differ(name)}
    result.missing |= {name: "not in the file" for name in unfilled if _may_differ(name)}
    for names, where in ((unused, "file"), (unfilled, "model")):
        if clashing := [name for name in names if not _may_differ(name)]:
            result.clashes.append(f"only the {where} has {shorten(clashing)}")


def _may_differ(name: str) -> bool:
    return name in _MAY_DIFFER or name.endswith("num_batches_tracked")


def _resize(
    name: str, source: Tensor, target: Tensor, encoder: nn.Module
) -> tuple[Tensor, str] | None:
    """A position table or embedding for the model's window or grid, and from what to what; None for
    any other tensor, and where more than that differs."""
    if source.ndim != target.ndim or source.shape[-1] != target.shape[-1]:
        return None
    if name.endswith(f".{_TABLE}"):
        owner = name.removeprefix("encoder.").rpartition(".")[0]
        return _resize_table(source, target, encoder.get_submodule(owner))
    return _resize_embedding(source, target, encoder) if name == "encoder.pos_embed" else None


def _resize_table(source: Tensor, target: Tensor, attention: Any) -> tuple[Tensor, str] | None:
    rows, columns = attention.window_size
    sides = (2 * rows - 1, 2 * columns - 1)
    extra = len(target) - sides[0] * sides[1]  # a ViT's, whose only window is its grid
    found = _sides(len(source) - extra, sides)
    if found is None:
        return None
    window = ((found[0] + 1) // 2, (found[1] + 1) // 2)
    what = "grid" if extra else "window"
    return (
        resize_table(source, window, (rows, columns)),
        f"{what} {window[0]} x {window[1]} -> {rows} x {columns}",
    )


def _resize_embedding(source: Tensor, target: Tensor, encoder: Any) -> tuple[Tensor, str] | None:
    rows, columns = encoder.patch_embed.grid_size
    extra = target.shape[1] - rows * columns
    found = _sides(source.shape[1] - extra, (rows, columns))
    if found is None:
        return None
    return (
        resize_embedding(source, found, (rows, columns)),
        f"grid {found[0]} x {found[1]} -> {rows} x {columns}",
    )


def _sides(count: int, like: Size) -> Size | None:
    """(rows, columns) of `count` places: as many of both where that is possible, for pictures are
    mostly square, and else in the ratio that is nearest to that of `like`.

    None where there are no places, and for a rectangle when `like` does not tell which side is longer.
    """
    side = math.isqrt(max(count, 0))
    if side * side == count:
        return (side, side) if side else None
    if count < 1 or like[0] == like[1]:
        return None
    pairs = [(rows, count // rows) for rows in range(1, count + 1) if count % rows == 0]
    return min(pairs, key=lambda p: abs(math.log(p[0] / p[1]) - math.log(like[0] / like[1])))
