"""The streaming part of `benchmarks.analysis`: shards that merge to one pass, and memory that stays flat.

Run as a module with a number of pictures it looks at so many of them, and prints its peak memory in MiB.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks._report import Figure
from mimray.analysis.attention import AttentionDiagnostic
from mimray.analysis.cka import CkaDiagnostic
from mimray.analysis.diagnostic import Diagnostic
from mimray.analysis.health import HealthDiagnostic
from mimray.analysis.receptive_field import ReceptiveFieldDiagnostic
from mimray.data.framing import Framing
from mimray.data.sources import open_source
from mimray.evaluate.decoding import decoded
from mimray.evaluate.diagnosis_shards import deal
from mimray.mim.encoders import Encoder, build_encoder
from mimray.mim.normalisation import normalise

SIZE, BATCH, SHARDS = 64, 8, 4
PICTURES, TIMES = 64, 8
ATOL, GROWTH = 1e-6, 1.05
KINDS: tuple[Callable[[Encoder], Diagnostic], ...] = (
    AttentionDiagnostic,
    CkaDiagnostic,
    HealthDiagnostic,
    ReceptiveFieldDiagnostic,
)


def figures() -> dict[str, Figure]:
    """Differences are of the largest number of a diagnostic's rows, so that all of them compare."""
    torch.manual_seed(0)
    encoder = build_encoder("vit_nano", SIZE).eval()
    batches = [torch.randn(BATCH, 3, SIZE, SIZE) for _ in range(SHARDS)]
    difference = max(_difference(kind, encoder, batches) for kind in KINDS)
    few, many = (_peak(PICTURES * times) for times in (1, TIMES))
    return {
        "shards merged, difference": Figure(
            ratio=ATOL / max(difference, 1e-12), target=1.0, ours=difference, theirs=ATOL,
            unit="at most",
        ),
        f"memory, {TIMES} times the pictures": Figure(
            ratio=few / many, target=1 / GROWTH, ours=many, theirs=few, unit="MiB at the peak"
        ),
    }  # fmt: skip


def _difference(
    kind: Callable[[Encoder], Diagnostic], encoder: Encoder, batches: list[Tensor]
) -> float:
    """Of a pass over all batches, and of a shard for each, the last one first."""
    whole, merged = kind(encoder), kind(encoder)
    for batch in batches:
        whole.update(batch)
    for batch in batches[::-1]:
        shard = kind(encoder)
        shard.update(batch)
        merged.merge(shard)
    expected, found = _numbers(whole), _numbers(merged)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _numbers(diagnostic: Diagnostic) -> np.ndarray:
    values = [list(row.values()) for row in diagnostic.rows()]
    return np.array([[v for v in row if isinstance(v, float)] for row in values])


def _peak(pictures: int) -> float:
    words = [sys.executable, "-m", "benchmarks._analysis_shards", str(pictures)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _look(pictures: int) -> None:
    """All diagnostics over so many photos, as an analysis streams them."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = build_encoder("vit_nano", SIZE).eval()
    diagnostics = [kind(encoder) for kind in KINDS]
    batches = deal(np.arange(pictures), BATCH)
    for block in decoded(open_source("builtin:photos/train"), batches, Framing(SIZE, False), 1):
        images = normalise(torch.from_numpy(block["image"]).permute(0, 3, 1, 2))
        for diagnostic in diagnostics:
            diagnostic.update(images)


if __name__ == "__main__":
    _look(int(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
