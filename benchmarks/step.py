"""A training step of mimray's encoders beside timm's eager ones, on the same pictures and masks.

Both have the same parameters, linear head, masked L1 loss, clip and fused AdamW; they differ in what
`mimray.mim.encoders` and `mimray.mim.compiling` do. On a GPU in bfloat16 with compiled blocks, by the
clock; on a CPU in float32, CPU time of one thread. Steps in turn; medians. MFU is of the rate of a large
matrix product in the same run. Needs torch and timm alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._report import Figure, report
from mimray.mim.compiling import compile_blocks
from mimray.mim.encoders import ENCODERS, build_encoder
from mimray.mim.masks import draw


@dataclass(frozen=True)
class Case:
    """An encoder's pictures and batch; least ratio and MFU on a GPU (0: none is asked)."""

    size: int
    window: int | None
    batch: int
    ratio: float = 0.0
    mfu: float = 0.0


CASES = {
    "swinv2_base": Case(192, 12, 256, ratio=1.6, mfu=0.45),
    "vit_base": Case(224, None, 256, ratio=1.1, mfu=0.58),
    "swinv2_small": Case(192, 12, 256),
    "swinv2_large": Case(192, 12, 128),
    "swin_base": Case(192, 6, 256),
}
CPU_RATIO, CPU_BATCH = 0.98, 2
ROUNDS, STEPS = {"cpu": 7, "cuda": 10}, {"cpu": 1, "cuda": 5}


class TimmEncoder(nn.Module):
    """timm's own model, with SimMIM's mask token after its patch embedding."""

    def __init__(self, name: str, case: Case) -> None:
        super().__init__()
        spec = ENCODERS[name]
        sizes: dict[str, Any] = {
            "img_size": case.size,
            "num_classes": 0,
            "drop_path_rate": 0.0,
            "embed_dim": spec.sizes["embed"],
            "num_heads": spec.sizes["heads"],
        }
        if spec.family == "vit":
            sizes |= {"depth": spec.sizes["depth"], "patch_size": spec.sizes["patch"]}
            position = {"use_abs_pos_emb": False, "use_shared_rel_pos_bias": True}
            self.model: Any = Beit(**sizes, **position, init_values=0.1)
            self.model.fc_norm, self.model.norm = nn.Identity(), self.model.fc_norm
        else:
            family = {"swin": SwinTransformer, "swinv2": SwinTransformerV2}[spec.family]
            self.model = family(
                **sizes, depths=spec.sizes["depths"], window_size=case.window, global_pool=""
            )
        self.mask_token = nn.Parameter(torch.zeros(spec.sizes["embed"]))
        self.hidden: Tensor | None = None
        self.model.patch_embed.register_forward_hook(self._hide)

    def _hide(self, _: nn.Module, __: Any, tokens: Tensor) -> Tensor:
        assert self.hidden is not None
        return torch.where(
            self.hidden.view(*tokens.shape[:-1], 1), self.mask_token.to(tokens.dtype), tokens
        )

    def forward(self, images: Tensor, hidden: Tensor) -> list[Tensor]:
        """The last stage's features alone, as `Encoder.forward` gives them: (B, C, h, w)."""
        self.hidden = hidden
        features = self.model.forward_features(images)
        if features.ndim == 3:  # a class token before the others
            features = features[:, 1:].unflatten(1, hidden.shape[1:])
        return [features.permute(0, 3, 1, 2)]


class Masked(nn.Module):
    """SimMIM: an encoder, a linear head, and L1 where the picture is hidden."""

    def __init__(self, encoder: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Conv2d(channels, 3 * stride**2, 1), nn.PixelShuffle(stride))

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        prediction = self.head(self.encoder(images, hidden)[-1]).float()
        patch = images.shape[-1] // hidden.shape[-1]
        pixels = hidden.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]
        return ((prediction - images).abs() * pixels).sum() / (3 * pixels.sum())


def pair(name: str, case: Case) -> tuple[Masked, Masked]:
    """mimray's and timm's, of the same parameters."""
    torch.manual_seed(0)
    encoder = build_encoder(name, case.size, case.window)
    ours = Masked(encoder, encoder.channels, encoder.stride)
    theirs = Masked(TimmEncoder(name, case), encoder.channels, encoder.stride)
    with torch.no_grad():
        for block in encoder.modules():  # SwinV2's norms start at 0: give its blocks a say
            if isinstance(block, nn.LayerNorm):
                block.weight.fill_(0.5)
    own = ("mask_token", "bias_windows")
    weights = {n: t for n, t in encoder.state_dict().items() if n not in own}
    theirs.encoder.model.load_state_dict(weights)
    theirs.encoder.mask_token.data.copy_(encoder.mask_token.flatten())
    theirs.head.load_state_dict(ours.head.state_dict())
    return ours, theirs


class Training:
    """One of the two with its optimiser and the batch."""

    def __init__(self, model: Masked, case: Case, patch: int, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.model, self.device, self.patch = model.to(device), device, patch
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        seeds = torch.arange(batch, device=device)
        self.hidden = draw("random", case.size, 32, patch, 0.6, seeds)
        self.images = torch.randn(batch, 3, case.size, case.size, device=device)

    def step(self) -> Tensor:
        """Forward, backward, clip, update; the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.model(self.images, self.hidden)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        return loss.detach()

    def start(self) -> tuple[float, float, float]:
        """First loss; seconds of the first two steps, compiling included; peak GPU memory of a step
        in GiB, with what this model holds and without what others do."""
        before = torch.cuda.memory_allocated() if self.device == "cuda" else 0
        held = sum(p.nbytes for p in self.model.parameters()) + self.images.nbytes
        began = time.perf_counter()
        loss = float(self.step())
        self.step()
        wait(self.device)
        seconds = time.perf_counter() - began
        if self.device == "cpu":
            return loss, seconds, 0.0
        torch.cuda.reset_peak_memory_stats()
        self.step()
        return loss, seconds, (torch.cuda.max_memory_allocated() - before + held) / 2**30


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(steps: list[Callable[[], Any]], device: str) -> list[float]:
    """Of one step each, medians of rounds in turn."""
    clock, count = time.perf_counter if device == "cuda" else time.process_time, STEPS[device]
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS[device]):
        for step, row in zip(steps, times, strict=True):
            wait(device)
            began = clock()
            for _ in range(count):
                step()
            wait(device)
            row.append((clock() - began) / count)
    return [statistics.median(row) for row in times]


def matrix_rate(side: int = 8192) -> float:
    """Operations a second of a bfloat16 matrix product on the GPU, the best of ten rounds."""
    a, b = torch.randn(2, side, side, device="cuda", dtype=torch.bfloat16)
    best = min(seconds([lambda: a @ b], "cuda")[0] for _ in range(10))
    return 2 * side**3 / best


def flops(name: str, case: Case) -> int:
    """Operations of timm's forward and backward pass for one picture, counted on no device."""
    with torch.device("meta"):
        spec = ENCODERS[name]
        channels = spec.sizes["embed"] * spec.stride // spec.patch
        model = Masked(TimmEncoder(name, case), channels, spec.stride)
        side = case.size // spec.patch
        hidden = torch.zeros(1, side, side, dtype=torch.bool)
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, case.size, case.size), hidden).backward()
    return counter.get_total_flops()


def compare(name: str, batch: int, device: str, rate: float) -> tuple[dict[str, Figure], Any]:
    """Steps of both, and what else was seen; `rate`: operations a second that make 100 % MFU."""
    case = CASES[name]
    models, patch = pair(name, case), ENCODERS[name].patch
    if device == "cuda":
        compile_blocks(models[0].encoder)
    trainings = [Training(model, case, patch, batch, device) for model in models]
    (loss, compiling, memory), (eager_loss, _, eager_memory) = [t.start() for t in trainings]
    assert abs(loss - eager_loss) < (1e-2 if device == "cuda" else 1e-5) * eager_loss
    ours, theirs = (batch / s for s in seconds([t.step for t in trainings], device))
    unit = "images/s" if device == "cuda" else "images/CPU-s"
    target = case.ratio if device == "cuda" else CPU_RATIO
    figures = {
        name: Figure(ratio=ours / theirs, target=target, ours=ours, theirs=theirs, unit=unit)
    }
    seen: dict[str, Any] = {"batch": batch, "gflop_a_picture": round(flops(name, case) / 1e9, 1)}
    if device == "cuda":
        mfu, eager = (images * flops(name, case) / rate for images in (ours, theirs))
        figures[f"{name} MFU"] = Figure(
            ratio=mfu, target=case.mfu, ours=mfu, theirs=eager, unit="of the matrix rate"
        )
        seen |= {"compile_s": compiling, "gib": memory, "eager_gib": eager_memory}
    return figures, seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--models", default="swinv2_base,vit_base", help=", ".join(CASES))
    parser.add_argument("--batch", type=int, help=f"{CPU_BATCH} on a CPU, 128 or 256 on a GPU")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    rate = matrix_rate() if device == "cuda" else 0.0
    figures: dict[str, Figure] = {}
    seen: dict[str, Any] = {}
    for name in arguments.models.split(","):
        batch = arguments.batch or (CASES[name].batch if device == "cuda" else CPU_BATCH)
        found, seen[name] = compare(name, batch, device, rate)
        figures.update(found)
    where = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    more = {"device": where, "torch": torch.__version__, "tflops": rate / 1e12, "models": seen}
    report("step", figures, arguments.json, **more)


if __name__ == "__main__":
    main()
