"""Small checkpoints and data sets for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mimray.data.sources import open_source
from mimray.recipe import load_recipe
from mimray.train.console import Console
from mimray.train.launch import launch

torch.set_num_threads(1)

SMALL = ["model.encoder=vit_nano", "model.image_size=32", "model.window=null"]
QUICK = ["optim.batch=16", "schedule.length=2it", "schedule.warmup=1it", "run.tracking=off"]
PHOTOS = ["--data", "builtin:photos/train", "--val", "builtin:photos/val"]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory) -> Path:
    """A run of two steps: vit_nano at 32 px."""
    storage = tmp_path_factory.mktemp("pretrained")
    words = [
        *(*SMALL, *QUICK, "head.kind=linear", "mask.unit=16", "run.log_every=1it"),
        *("speed.loader=torch", "speed.loader_processes=0"),
        *(f"run.storage={storage}", "run.name=mim"),
    ]
    launch(load_recipe("demo", words), Console(), lambda rows, title: b"", here=True)
    return storage / "mim"


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Some of the shipped photos as an image folder with two splits."""
    folder = tmp_path_factory.mktemp("photos")
    for split, each in (("train", 4), ("val", 2)):
        source = open_source(f"builtin:photos/{split}")
        labels = source.labels()
        for label in range(10):
            rows = np.flatnonzero(labels == label)[:each]
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for row, data in zip(rows, source.read(rows), strict=True):
                (place / f"{row}.jpg").write_bytes(data)
    return folder
