"""What pre-training without labels is worth for classification: the same model with it and without.

On 8,000 small photos of 10 classes (Imagenette, 128 px) of which a share have labels. Three arms under one
fine-tuning recipe and several seeds: from SimMIM on all photos without labels; from scratch; and from
scratch with as many pictures seen in training as pre-training and fine-tuning see together. Everything in
one process; a run that is finished is not repeated, so a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks._report import Figure, report
from mimray import environment

SIZE, BATCH = 64, 128
HERE = [
    "run.tracking=off",
    "speed.loader=torch",
    "speed.loader_processes=0",
    "optim.precision=float32",
]
MODEL = ["model.encoder=vit_nano", "model.window=null", f"model.image_size={SIZE}"]


def pretraining(data: str, length: int) -> list[str]:
    """SimMIM with 64 tokens, cells of 16 px, and per-patch normalised targets."""
    return [
        *(*MODEL, *HERE, f"data.train={data}", f"data.val={data}", f"optim.batch={BATCH}"),
        *("mask.unit=16", "mask.ratio=0.6", "target.kind=patches", "target.patch=8"),
        *("optim.lr=0.002", "optim.weight_decay=0.05", f"schedule.length={length}img"),
        *("schedule.warmup=5%", "run.validate_every=10%", "run.checkpoint_every=10%"),
    ]


def finetuning(data: str, length: int, labels: str, seed: int, batch: int) -> list[str]:
    """One recipe for all arms; what they start from and how long they last apart."""
    return [
        *(*MODEL, *HERE, f"data.train={data}", f"data.val={data}", f"data.labels={labels}"),
        *("model.drop_path=0.1", "data.crop_scale=[0.35, 1.0]", f"optim.batch={batch}"),
        *("augment.mixup=0.2", "augment.cutmix=0.5", "augment.erasing=0.0", "optim.lr=0.001"),
        *("optim.layer_decay=0.75", f"schedule.length={length}img", "schedule.warmup=10%"),
        *("run.validate_every=10%", "run.checkpoint_every=50%", f"run.seed={seed}"),
    ]


def trained(kind: str, name: str, words: list[str], folder: Path) -> dict[str, Any]:
    """A run's record, from its folder where it is finished."""
    from mimray.recipe import load_finetune_recipe, load_recipe
    from mimray.train.console import Console
    from mimray.train.launch import launch

    words = [*words, f"run.storage={folder}", f"run.name={name}"]
    load = load_recipe if kind == "pretrain" else load_finetune_recipe
    recipe = load("demo" if kind == "pretrain" else "finetune_demo", words)
    console = Console()
    console.say(name)
    record, _ = launch(recipe, console, lambda rows, title: b"", here=True)
    console.clear()
    return record


def arms(options: argparse.Namespace) -> dict[str, list[float]]:
    """Top-1 after the last epoch, for every arm and seed."""
    data, folder, pictures = options.data, Path(options.folder), options.pretrain
    mim = f"mim-{pictures}"
    trained("pretrain", mim, pretraining(data, pictures), folder)
    found: dict[str, list[float]] = {"mim": [], "scratch": [], "scratch_long": []}
    for seed in range(options.seeds):
        for arm, length, start in (
            ("mim", options.finetune, [f"model.weights={folder / mim}"]),
            ("scratch", options.finetune, []),
            ("scratch_long", options.finetune + pictures, []),
        ):
            words = finetuning(data, length, options.labels, seed, options.batch) + start
            name = f"{arm}-{options.labels.rstrip('%')}-{pictures}-{length}-{seed}"
            record = trained("finetune", name, words, folder)
            found[arm].append(record["final"]["val/top1"])
            print(arm, seed, f"{found[arm][-1]:.2%}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Run all arms and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", default="../shared/data/photos/data")
    parser.add_argument("--folder", default="runs/recognition")
    parser.add_argument("--labels", default="10%")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pretrain", type=int, default=400_000, help="pictures of pre-training")
    parser.add_argument("--finetune", type=int, default=80_000, help="pictures of fine-tuning")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    environment.prepare()
    found = arms(options)
    mean = {arm: statistics.mean(values) for arm, values in found.items()}
    spread = {arm: statistics.stdev(v) if len(v) > 1 else 0.0 for arm, v in found.items()}
    figures = {
        "points_over_scratch": Figure(
            ratio=100 * (mean["mim"] - mean["scratch"]) / 5.0,
            target=1.0,
            ours=100 * mean["mim"],
            theirs=100 * mean["scratch"],
            unit="% top-1",
        ),
        "over_scratch_of_as_many_pictures": Figure(
            ratio=mean["mim"] / mean["scratch_long"],
            target=1.0,
            ours=100 * mean["mim"],
            theirs=100 * mean["scratch_long"],
            unit="% top-1",
        ),
    }
    report("recognition", figures, options.json, top1=found, spread=spread)


if __name__ == "__main__":
    main()
