"""The kinds of analysis by name: whom each can look at, what it is made of, what stands for all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from mimray.errors import UserError
from mimray.evaluate.checkpoint import Checkpoint
from mimray.evaluate.table_files import Rows
from mimray.settings_errors import nearest

if TYPE_CHECKING:
    from mimray.analysis.attention import AttentionDiagnostic
    from mimray.analysis.diagnostic import Diagnostic
    from mimray.analysis.receptive_field import ReceptiveFieldDiagnostic
    from mimray.mim.encoders import Encoder

Options = dict[str, str]
Maps = dict[str, np.ndarray]

ROWS, PAIRS = "rows", "pairs"
"""Tables: a row a layer (and head) of every kind, a row a pair of heads of attention."""
_TRANSFORMERS = ("vit", "swin", "swinv2")
_CONVNETS = ("resnet", "convnext", "replknet")
_LACKS = {"attention": "attention", "kernels": "kernels but its patch embedding's"}


def _only_rows(diagnostic: Any) -> dict[str, Rows]:
    return {ROWS: diagnostic.rows()}


def _no_maps(_: Any) -> Maps:
    return {}


@dataclass(frozen=True)
class Kind:
    """A diagnostic, as the command line names it.

    `build`: of one encoder, or of two that are compared; `summary`: a few numbers that stand for one
    model's rows; `families`: of encoders that have it; `takes`: its options, each by the command line's
    word; `least`: pictures of a batch; `pairs`: models are compared two by two; `pictures`: whether any
    are needed; `tables` and `maps`: what it says, by name.
    """

    name: str
    build: Callable[[Sequence[Encoder], Options], Diagnostic]
    summary: Callable[[Rows], dict[str, float]]
    families: tuple[str, ...] = _TRANSFORMERS + _CONVNETS
    takes: Mapping[str, str] = field(default_factory=dict)
    least: int = 1
    pairs: bool = False
    pictures: bool = True
    tables: Callable[[Any], dict[str, Rows]] = _only_rows
    maps: Callable[[Any], Maps] = _no_maps

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether its encoder has it."""
        return _family(checkpoint) in self.families

    def check(self, checkpoint: Checkpoint) -> None:
        """Raises UserError, naming what is possible, for an encoder that does not have it."""
        if not self.fits(checkpoint):
            possible = ", ".join(kind.name for kind in KINDS.values() if kind.fits(checkpoint))
            raise UserError(
                f"--from {checkpoint.weights}: {checkpoint.encoder} has no {_LACKS[self.name]}; "
                f"possible are {possible}"
            )


def _family(checkpoint: Checkpoint) -> str:
    from mimray.mim.encoders import ENCODERS

    name = checkpoint.encoder
    if name not in ENCODERS:
        raise UserError(f"--encoder {name}: is not known{nearest(name, list(ENCODERS))}")
    return ENCODERS[name].family


# ----- attention ----------------------------------------------------------------------------------------


def _attention(encoders: Sequence[Encoder], options: Options) -> Diagnostic:
    from mimray.analysis.attention import AttentionDiagnostic

    return AttentionDiagnostic(encoders[0], options["class_token"])  # type: ignore[arg-type]


def _attention_tables(diagnostic: AttentionDiagnostic) -> dict[str, Rows]:
    """Heads, and every ordered pair of different heads of a layer, both numbered from 1."""
    divergences = zip(diagnostic.divergence(), diagnostic.divergence(symmetric=True), strict=True)
    pairs = [
        {
            "layer": layer.name,
            "index": layer.index,
            "stage": layer.stage,
            "head": head + 1,
            "other_head": other + 1,
            "kl_nats": ordered[head, other].item(),
            "kl_symmetric_nats": symmetric[head, other].item(),
        }
        for layer, (ordered, symmetric) in zip(diagnostic.layers, divergences, strict=True)
        for head in range(layer.heads)
        for other in range(layer.heads)
        if head != other
    ]
    return {ROWS: diagnostic.rows(), PAIRS: pairs}


def _attention_summary(rows: Rows) -> dict[str, float]:
    named = {
        "attention_distance_px": "distance_px",
        "attention_entropy_nats": "entropy_nats",
        "head_divergence_nats": "kl_mean",
    }
    return _means(rows, named)


# ----- layers -------------------------------------------------------------------------------------------


def _cka(encoders: Sequence[Encoder], options: Options) -> Diagnostic:
    from mimray.analysis.cka import CkaDiagnostic

    first, *other = encoders
    return CkaDiagnostic(first, other[0] if other else None, options["estimator"])  # type: ignore[arg-type]


def _cka_summary(rows: Rows) -> dict[str, float]:
    """Of a model's layers with each other; a layer is as it is itself."""
    own = (r for r in rows if r["other_model"] == r["model"] and r["layer"] != r["other"])
    found = [row["cka"] for row in own if row["cka"] == row["cka"]]
    return {"cka_mean": fmean(found), "cka_min": min(found)} if found else {}


def _health(encoders: Sequence[Encoder], options: Options) -> Diagnostic:
    from mimray.analysis.health import HealthDiagnostic

    return HealthDiagnostic(encoders[0])


# ----- how far ------------------------------------------------------------------------------------------


def _receptive_field(encoders: Sequence[Encoder], options: Options) -> Diagnostic:
    from mimray.analysis.receptive_field import ReceptiveFieldDiagnostic

    return ReceptiveFieldDiagnostic(encoders[0])


def _receptive_field_maps(diagnostic: ReceptiveFieldDiagnostic) -> Maps:
    return {name: shares.float().numpy() for name, shares in diagnostic.map().items()}


class _Kernels:
    """Satisfies `Diagnostic` and sees no picture: what it says is in the weights."""

    def __init__(self, encoder: Encoder) -> None:
        from mimray.analysis.kernels import kernel_locality

        self._rows = kernel_locality(encoder)

    def update(self, images: Any) -> None: ...

    def merge(self, other: Any) -> None: ...

    def rows(self) -> Rows:
        return self._rows

    def conventions(self) -> dict[str, str]:
        return {
            "kernel distance": "of taps from the kernel's centre, pixels of the picture, by their share "
            "of |weight|; mean over output channels"
        }

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None: ...


def _means(rows: Rows, named: dict[str, str]) -> dict[str, float]:
    """Means of columns over the rows that have them, under other names."""
    found = {name: [r[c] for r in rows if r[c] is not None] for name, c in named.items()}
    return {name: fmean(values) for name, values in found.items() if values}


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "attention",
            _attention,
            _attention_summary,
            families=_TRANSFORMERS,
            takes={"class_token": "class_token"},
            tables=_attention_tables,
        ),
        Kind(
            "kernels",
            lambda encoders, _: _Kernels(encoders[0]),
            lambda rows: _means(rows, {"kernel_distance_px": "distance_px"}),
            families=_CONVNETS,
            pictures=False,
        ),
        Kind("cka", _cka, _cka_summary, takes={"estimator": "cka_estimator"}, least=4, pairs=True),
        Kind(
            "receptive-field",
            _receptive_field,
            lambda rows: {"receptive_field_radius_px": rows[-1]["radius_px"]},
            maps=_receptive_field_maps,
        ),
        Kind("health", _health, lambda rows: {"effective_rank": rows[-1]["effective_rank"]}),
    )
}
