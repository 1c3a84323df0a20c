"""The attention part of `benchmarks.analysis`: a ViT-B at 224 px, 12 heads and 197 tokens."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks._report import Figure
from mimray.analysis.attention import AttentionDiagnostic
from mimray.analysis.attention_maps import attention_probabilities
from mimray.analysis.statistics import divergence, head_divergence, product_sums
from mimray.mim.encoders import Encoder, build_encoder

PICTURES, SIZE = 4, 224
SPEEDUP, ATOL, SLOWDOWN = 25.0, 1e-5, 1.5


def figures(options: argparse.Namespace) -> dict[str, Figure]:
    """`options.rounds`: turns of both; their medians count."""
    torch.manual_seed(0)
    encoder = build_encoder("vit_base", SIZE).eval()
    images = torch.randn(PICTURES, 3, SIZE, SIZE)
    with torch.no_grad():  # fresh heads are all but alike
        for block in encoder.stage_blocks()[0]:
            block.attn.qkv.weight *= 6.0
    logs = attention_probabilities(encoder, images)["block 6"].flatten(0, 1).log()
    return {**_divergence(logs, options.rounds), **_whole(encoder, images, options.rounds)}


def _divergence(logs: Tensor, rounds: int) -> dict[str, Figure]:
    """`logs`: (B, heads, N, N).

    The first figure is of what the diagnostic does, whose softmax gives shares and logarithms; the plain
    way is given both as well. The other is of the function that is given logarithms alone.
    """
    shares = logs.exp()
    ours, theirs = in_turns(
        lambda: by_picture(shares, logs), lambda: broadcast(shares, logs), rounds
    )
    alone, _ = in_turns(lambda: head_divergence(logs), lambda: None, rounds)
    expected = broadcast(logs.double().exp(), logs.double())
    found = (by_picture(shares, logs), head_divergence(logs))
    error = max((x - expected).abs().max().item() for x in found)
    return {
        "divergence of heads": Figure(
            ratio=theirs / ours, target=SPEEDUP, ours=ours, theirs=theirs, unit="CPU s"
        ),
        "divergence, of logarithms": Figure(
            ratio=theirs / alone, target=0.0, ours=alone, theirs=theirs, unit="CPU s"
        ),
        "divergence, difference": Figure(
            ratio=ATOL / max(error, 1e-12), target=1.0, ours=error, theirs=ATOL, unit="at most"
        ),
    }


def _whole(encoder: Encoder, images: Tensor, rounds: int) -> dict[str, Figure]:
    """Distance, entropy and divergence of all layers, beside a pass with explicit attention."""
    diagnostic = AttentionDiagnostic(encoder)
    ours, theirs = in_turns(
        lambda: diagnostic.update(images), lambda: explicit_pass(encoder, images), rounds
    )
    return {
        "attention of a ViT-B": Figure(
            ratio=theirs / ours, target=1 / SLOWDOWN, ours=ours, theirs=theirs, unit="CPU s"
        )
    }


def by_picture(shares: Tensor, logs: Tensor) -> Tensor:
    """As the diagnostic does it on a CPU: (B, heads, N, N) -> (heads, heads)."""
    sums = sum(product_sums(*picture) for picture in zip(shares, logs, strict=True))
    return divergence(sums) / (logs.shape[0] * logs.shape[2])


def broadcast(shares: Tensor, logs: Tensor) -> Tensor:
    """KL(a || b) with all pairs of heads in one tensor: (B, heads, N, N) -> (heads, heads)."""
    terms = shares[:, :, None] * (logs[:, :, None] - logs[:, None])
    return terms.sum(-1).mean(dim=(0, 3))


@torch.no_grad()
def explicit_pass(encoder: Encoder, images: Tensor) -> None:
    """A forward pass with attention as timm writes it out, without torch's kernel."""
    modules = [block.attn for block in encoder.stage_blocks()[0]]
    for module in modules:
        module.fused_attn = False
    encoder(images)
    for module in modules:
        module.fused_attn = True


def in_turns(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float]:
    """Median CPU seconds of each, after a turn that sets the libraries up."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for side, run in zip(seconds, (ours, theirs), strict=True):
            start = time.process_time()
            run()
            if turn:
                side.append(time.process_time() - start)
    return median(seconds[0]), median(seconds[1])
