"""`mimray data clusters URI --out FILE`: colours, or patches, that stand for all of one's own.

`target.kind=clusters` predicts the one, the example tokenizer of `target.kind=tokens` gives the other.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import ArrowException, fs
from safetensors.torch import save

from mimray.data.files import absolute, resolve, write_atomic
from mimray.data.sources import open_source
from mimray.environment import start_folder
from mimray.errors import UserError
from mimray.mim.kmeans import Clustering, kmeans
from mimray.mim.targets.clusters import COLOURS
from mimray.mim.targets.patch_codebook import CODEBOOK
from mimray.verbs.data.pieces import decoded, sample, vectors
from mimray.verbs.data.progress import print_fields


def run(arguments: argparse.Namespace) -> int:
    """Cluster a sample, write the centres, and say how to train with them."""
    _check(arguments)
    path = _new_file(arguments.out)
    source = open_source(arguments.uri)
    if not len(source):
        raise UserError(f"{arguments.uri}: its {len(source.parts())} file(s) hold no pictures")
    rows = sample(source, arguments.images, arguments.seed)
    blocks = decoded(source, rows, arguments.patch, arguments.seed)
    if not blocks:
        raise UserError(f"{arguments.uri}: none of {len(rows):,} pictures can be read")
    points = vectors(torch.from_numpy(np.concatenate(blocks)))
    what = "pixels" if arguments.patch == 1 else "patches"
    print(f"clustering {len(points):,} {what} of {len(blocks):,} pictures", file=sys.stderr)
    try:
        found = kmeans(points, arguments.clusters, arguments.seed)
    except ValueError as error:
        raise UserError(f"--clusters: {error}; take fewer, or more --images") from None
    result = {
        "file": path,
        "source": source.digest,
        "seed": arguments.seed,
        "clusters": arguments.clusters,
        "patch": arguments.patch,
        "images": len(blocks),
        "unreadable": len(rows) - len(blocks),
        "vectors": len(points),
        "rounds": found.rounds,
        "distortion": found.distortion,
        "variance": float(points.var(dim=0, correction=0).sum()),
    }
    _write(arguments.out, result, found)
    if arguments.json:
        print(json.dumps(result))
    else:
        _print(result, what)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UserError for settings that cannot be meant."""
    for name, least, most in (
        ("clusters", 2, 65_536),
        ("patch", 1, 64),
        ("images", 1, 10**6),
        ("seed", 0, 2**63 - 1),
    ):
        value = getattr(arguments, name)
        if not least <= value <= most:
            raise UserError(f"--{name} {value}: must be {least} to {most:,}")


def _new_file(out: str) -> str:
    """Where to write, absolute. Raises UserError where something is there already."""
    path = absolute(out if "://" in out else str(start_folder() / Path(out).expanduser()))
    try:
        filesystem, place = resolve(path)
        kind = filesystem.get_file_info(place).type
    except (OSError, ArrowException) as error:
        raise UserError(f"--out {out}: cannot be written: {_first_line(error)}") from None
    if kind == fs.FileType.Directory:
        raise UserError(f"--out {out} is a folder; name a file in it")
    if kind != fs.FileType.NotFound:
        raise UserError(f"--out {out} is there already; name a new file, or remove it")
    return path


def _write(out: str, result: dict[str, Any], found: Clustering) -> None:
    """Safetensors of the centres; the metadata is the object of `--json`, without the path."""
    name = COLOURS if result["patch"] == 1 else CODEBOOK
    about = {key: str(value) for key, value in result.items() if key != "file"}
    try:
        write_atomic(*resolve(result["file"]), save({name: found.centres}, about))
    except (OSError, ArrowException) as error:
        raise UserError(f"--out {out}: cannot be written: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]


def _print(result: dict[str, Any], what: str) -> None:
    print(f"{result['clusters']:,} clusters of {what}: {result['file']}")
    distortion, variance = result["distortion"], result["variance"]
    left = f"; {distortion / variance:.1%} of their variance" if variance else ""
    pictures = f"{result['images']:,} ({result['vectors']:,} {what}), seed {result['seed']}"
    print_fields(
        [
            ("pictures", pictures),
            ("unreadable", f"{result['unreadable']:,}"),
            ("distortion", f"{distortion:.4g}, the mean squared distance to the centre{left}"),
            ("rounds", f"{result['rounds']}"),
        ]
    )
    kind = "target.kind=clusters target.resolution=48"
    if what == "patches":
        module = "mimray.mim.targets.patch_codebook:PatchCodebook"
        kind = f"target.kind=tokens target.module={module}"
    print(f"train with them: mimray pretrain RECIPE {kind} target.file={result['file']}")
