"""CKA, divergence of heads, and the attention of a ViT-B, each beside the plain way to get it; shards
beside one pass, and the memory of many pictures beside that of few.

CPU time of one thread; the sides take turns. It takes five minutes or so.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks import _analysis_attention, _analysis_cka, _analysis_shards
from benchmarks._report import report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {
        **_analysis_cka.figures(options),
        **_analysis_attention.figures(options),
        **_analysis_shards.figures(),
    }
    report("analysis", figures, options.json, rounds=options.rounds)


if __name__ == "__main__":
    main()
