"""A linear probe of all 12 layers of a ViT-S beside one of a single layer, features included.

Synthetic pictures of 128 px through the encoder once, each layer asked for pooled in the pass, and
then the probes. CPU time of one thread; both in turn, means.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor

from benchmarks._report import Figure, report
from mimray.downstream.features import layer_names, pooled_features
from mimray.downstream.linear import fit_probes
from mimray.mim.encoders import Encoder, build_encoder

ENCODER, SIZE, BATCH, CLASSES, ROUNDS = "vit_small", 128, 50, 10, 2
TARGET = 1 / 1.3


def sweep(
    encoder: Encoder, images: list[Tensor], labels: Tensor, layers: list[str]
) -> tuple[float, float]:
    """Seconds of the features of `layers` and of their probes."""
    start = time.process_time()
    batches = [pooled_features(encoder, batch, layers) for batch in images]
    features = {name: torch.cat([b[name] for b in batches]).half().numpy() for name in layers}
    middle = time.process_time()
    fit_probes(features, labels, CLASSES)
    return middle - start, time.process_time() - middle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER, SIZE).eval()
    images = list(torch.randn(arguments.pictures, 3, SIZE, SIZE).split(BATCH))
    labels = torch.randint(CLASSES, (arguments.pictures,))
    names = layer_names(encoder)[:-1]
    choices = {"one": names[7:8], "all": names}
    pooled_features(encoder, images[0], names)
    seconds: dict[str, list[tuple[float, float]]] = {choice: [] for choice in choices}
    for _ in range(ROUNDS):
        for choice, layers in choices.items():
            seconds[choice].append(sweep(encoder, images, labels, layers))
    whole = {choice: statistics.mean(map(sum, pairs)) for choice, pairs in seconds.items()}
    probes = {c: statistics.mean(p for _, p in pairs) for c, pairs in seconds.items()}
    figure = Figure(
        ratio=whole["one"] / whole["all"],
        target=TARGET,
        ours=whole["all"],
        theirs=whole["one"],
        unit="CPU s",
    )
    more = {"pictures": arguments.pictures, "probes_s": probes}
    report("layer_sweep", {f"{len(names)} layers": figure}, arguments.json, **more)


if __name__ == "__main__":
    main()
