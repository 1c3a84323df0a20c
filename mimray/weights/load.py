"""Load anybody's weights into a model, whole or not at all, and say what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mimray.mim.encoders import Encoder
from mimray.weights.architecture import describe
from mimray.weights.fit import fit
from mimray.weights.formats import recognise
from mimray.weights.read import read, unwrap
from mimray.weights.report import LoadReport


def load(
    model: nn.Module, source: str | Path | Mapping[str, Tensor], *, allow_nan: bool = False
) -> LoadReport:
    """Fill `model` from a checkpoint of any format in `FORMATS`.

    `model`: a MaskedImageModel, an Encoder, or a model that has one as `encoder`, like a Classifier;
    `source`: what `read` takes, or names and tensors. Position tables and embeddings are resized to
    the model's windows and grid.

    Raises ValueError, and leaves the model as it was, for a source that cannot be read, for the weights
    of another encoder, naming the first that differ, and for ones that are not finite, if they are not
    allowed.
    """
    prefix = "encoder." if isinstance(model, Encoder) else ""
    encoder = model if isinstance(model, Encoder) else getattr(model, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise ValueError(
            f"{type(model).__name__} is no Encoder and has none; build it with mimray.mim"
        )
    if isinstance(source, Mapping):
        label, weights = "the given weights", unwrap(source, "the given weights")
    else:
        label, weights = str(source), read(source)
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    try:
        translated, dropped = recognise(weights).read(weights)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    fitted = fit(translated, state, encoder)
    if fitted.clashes:
        raise ValueError(f"{label}: {_why_another(translated, state, fitted.clashes)}")
    if not allow_nan:
        _check_finite(label, fitted.ready)
    for name, tensor in fitted.ready.items():
        state[name].copy_(tensor)
    matched = tuple(name for name in fitted.ready if name not in fitted.resized)
    return LoadReport(matched, fitted.resized, dropped | fitted.dropped, fitted.missing)


def _why_another(
    weights: Mapping[str, Tensor], state: Mapping[str, Tensor], clashes: list[str]
) -> str:
    """One line: what the file and the model look like, and the first differences."""
    file, own = describe(weights) or "an unknown encoder", describe(state)
    looks = "of another model" if file == own else f"of {file}; the model is {own}"
    more = f" (and {len(clashes) - 3} more)" if len(clashes) > 3 else ""
    return f"weights {looks}: {'; '.join(clashes[:3])}{more}"


def _check_finite(label: str, weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not torch.stack(tensor.aminmax()).isfinite().all():  # one pass, for there are many
            bad = tensor.numel() - int(tensor.isfinite().sum())
            raise ValueError(
                f"{label}: {name} holds NaN or infinity ({bad} of {tensor.numel()}), as a run that "
                "diverged leaves them; take an earlier checkpoint (in Python, allow_nan=True loads it)"
            )
