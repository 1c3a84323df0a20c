"""The figures of each kind of analysis, by their file names."""

from __future__ import annotations

from mimray.evaluate.diagnosis_findings import Draw, Findings
from mimray.evaluate.diagnosis_kinds import PAIRS, ROWS
from mimray.report.attention import attention_figures
from mimray.report.cka import cka_figure
from mimray.report.layer_lines import health_figure, kernels_figure
from mimray.report.receptive_field import receptive_field_figure


def _attention(found: Findings) -> dict[str, bytes]:
    return attention_figures(found.models, found.tables[ROWS], found.tables[PAIRS], found.notes)


def _cka(found: Findings) -> dict[str, bytes]:
    return {"cka.png": cka_figure(found.models, found.tables[ROWS], found.notes)}


def _receptive_field(found: Findings) -> dict[str, bytes]:
    drawn = receptive_field_figure(found.models, found.tables[ROWS], found.maps, found.notes)
    return {"receptive_field.png": drawn}


def _health(found: Findings) -> dict[str, bytes]:
    return {"health.png": health_figure(found.models, found.tables[ROWS], found.notes)}


def _kernels(found: Findings) -> dict[str, bytes]:
    return {"kernels.png": kernels_figure(found.models, found.tables[ROWS], found.notes)}


DRAW: dict[str, Draw] = {
    "attention": _attention,
    "cka": _cka,
    "receptive-field": _receptive_field,
    "health": _health,
    "kernels": _kernels,
}
