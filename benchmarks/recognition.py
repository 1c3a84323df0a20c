"""What pre-training without labels is worth for classification: the same model with it and without.

On 8,000 small photos of 10 classes (Imagenette, 128 px) of which a share have labels. Under one fine-tuning
recipe and several seeds: from SimMIM on all photos without labels; from scratch; from scratch without layer
decay, which spares learned layers and holds fresh ones back; and that again with as many pictures seen in
training as pre-training and fine-tuning see together. A run on each core, with one thread; one that is
finished is not repeated, so a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks._report import Figure, report
from mimray import environment

SIZE, BATCH = 64, 64
PHOTOS = Path(__file__).resolve().parents[2] / "shared/data/photos/data"
HERE = [
    "run.tracking=off",
    "speed.loader=torch",
    "speed.loader_processes=0",
    "optim.precision=bf16",
]
MODEL = ["model.encoder=vit_nano", "model.window=null", f"model.image_size={SIZE}"]
PLAIN = ["optim.layer_decay=1.0"]


def pretraining(data: str, length: int) -> list[str]:
    """SimMIM's masks and loss, with the encoder on the visible quarter only, which is quicker."""
    return [
        *(*MODEL, *HERE, f"data.train={data}", f"data.val={data}", f"optim.batch={BATCH}"),
        *("mask.unit=8", "mask.ratio=0.75", "target.kind=patches", "target.patch=8"),
        *("model.visible_only=true", "head.kind=transformer", "head.width=128", "head.depth=2"),
        *("optim.lr=0.001", "optim.weight_decay=0.05", f"schedule.length={length}img"),
        *("schedule.warmup=5%", "run.validate_every=10%", "run.checkpoint_every=10%"),
    ]


def finetuning(data: str, length: int, labels: str, seed: int) -> list[str]:
    """One recipe for all arms; what they start from and how long they last apart."""
    return [
        *(*MODEL, *HERE, f"data.train={data}", f"data.val={data}", f"data.labels={labels}"),
        *("model.drop_path=0.1", "data.crop_scale=[0.35, 1.0]", f"optim.batch={BATCH}"),
        *("augment.mixup=0.2", "augment.cutmix=0.5", "augment.erasing=0.0", "optim.lr=0.001"),
        *("optim.layer_decay=0.75", f"schedule.length={length}img", "schedule.warmup=10%"),
        *("run.validate_every=10%", "run.checkpoint_every=10%", f"run.seed={seed}"),
    ]


def trained(kind: str, name: str, words: list[str], folder: Path) -> dict[str, float]:
    """What a run's record has at its end, from its folder where it is finished."""
    from mimray.recipe import load_finetune_recipe, load_recipe
    from mimray.train.launch import launch

    words = [*words, f"run.storage={folder}", f"run.name={name}"]
    load = load_recipe if kind == "pretrain" else load_finetune_recipe
    recipe = load("demo" if kind == "pretrain" else "finetune_demo", words)
    record, _ = launch(recipe, Silent(), lambda rows, title: b"", here=True)
    print(name, record["final"], file=sys.stderr, flush=True)
    return dict(record["final"])  # the record itself is bound to this process


class Silent:
    """Satisfies `Progress`: many runs at once would write over each other."""

    def say(self, text: str) -> None: ...

    def row(self, row: dict[str, Any], total: int) -> None: ...


def arms(options: argparse.Namespace) -> dict[str, list[float]]:
    """Top-1 after the last epoch, for every arm and seed."""
    data, folder, pictures = options.data, Path(options.folder), options.pretrain
    mim = f"mim-{pictures}"
    found: dict[str, list[Future[dict[str, float]]]] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:

        def start(arm: str, length: int, more: list[str]) -> None:
            for seed in range(options.seeds):
                name = f"{arm}-{options.labels.rstrip('%')}-{pictures}-{length}-{seed}"
                words = finetuning(data, length, options.labels, seed) + more
                run = pool.submit(trained, "finetune", name, words, folder)
                found.setdefault(arm, []).append(run)

        start("scratch_long", options.finetune + pictures, PLAIN)  # else a core waits for the last
        pretrained = pool.submit(trained, "pretrain", mim, pretraining(data, pictures), folder)
        start("scratch", options.finetune, [])
        start("scratch_plain", options.finetune, PLAIN)
        pretrained.result()
        start("mim", options.finetune, [f"model.weights={folder / mim}"])
        return {arm: [run.result()["val/top1"] for run in runs] for arm, runs in found.items()}


def main() -> None:
    """Run all arms and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--data", default=str(PHOTOS), help="a folder with train/ and val/ of photos"
    )
    parser.add_argument("--folder", default="runs/recognition")
    parser.add_argument("--labels", default="2%")
    parser.add_argument("--pretrain", type=int, default=280_000, help="pictures of pre-training")
    parser.add_argument("--finetune", type=int, default=24_000, help="pictures of fine-tuning")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if "://" not in options.data and not Path(options.data).exists():
        print(f"recognition: no {options.data}; name the photos with --data", file=sys.stderr)
        sys.exit(2)
    os.environ["OMP_NUM_THREADS"] = "1"
    environment.prepare()
    found = arms(options)
    mean = {arm: 100 * statistics.mean(values) for arm, values in found.items()}
    spread = {arm: 100 * statistics.stdev(v) if len(v) > 1 else 0.0 for arm, v in found.items()}
    scratch = max(mean["scratch"], mean["scratch_plain"])
    figures = {
        "points_over_scratch": Figure(
            ratio=mean["mim"] - scratch,
            target=5.0,
            ours=mean["mim"],
            theirs=scratch,
            unit="% top-1",
        ),
        "over_scratch_of_as_many_pictures": Figure(
            ratio=mean["mim"] / mean["scratch_long"],
            target=1.0,
            ours=mean["mim"],
            theirs=mean["scratch_long"],
            unit="% top-1",
        ),
    }
    report("recognition", figures, options.json, top1=found, mean=mean, spread=spread)


if __name__ == "__main__":
    main()
