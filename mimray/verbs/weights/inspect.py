"""`mimray weights inspect FILE`: whose names a checkpoint has, which encoder, and what is in it."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mimray.mim.encoders import build_encoder
from mimray.verbs.data.progress import print_fields
from mimray.verbs.weights import Opened, not_finite, open_weights, user_errors
from mimray.weights import LoadReport, describe, load
from mimray.weights.report import shorten

_NUMBER = re.compile(  # of a stage or a block
    r"(?<=layers\.)\d+|(?<=layer\.)\d+|(?<=blocks\.)\d+|(?<=stages\.)\d+"
    r"|(?<=\blayer)\d(?=\.)|(?<=\blayer\d\.)\d+"
)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found, or one JSON object; with `--encoder`, what loading into it would do."""
    opened = open_weights(arguments.file)
    report = None
    if arguments.encoder is not None:
        report = _load(opened, arguments)
    if arguments.json:
        found = _found(arguments.file, opened)
        print(json.dumps(found | {"load": None if report is None else asdict(report)}))
        return 0
    print(arguments.file)
    print_fields(_fields(opened))
    if report is None:
        print()
        print("\n".join(_table(opened.own)))
    else:
        print(f"\nloaded into {arguments.encoder}: {report}")
    return 0


def _load(opened: Opened, arguments: argparse.Namespace) -> LoadReport:
    """Load into an encoder that takes no memory."""
    sizes = describe(opened.translated.weights)
    finetuned = sizes is not None and sizes.position == "per_block"
    with user_errors():
        with torch.device("meta"):
            model = build_encoder(
                arguments.encoder, arguments.image_size, arguments.window, finetune=finetuned
            )
        return load(model, arguments.file, allow_nan=True)


def _found(file: str, opened: Opened) -> dict[str, Any]:
    sizes = describe(opened.translated.weights)
    return {
        "file": file,
        "format": opened.format.name,
        "architecture": None if sizes is None else asdict(sizes),
        "encoders": [] if sizes is None else sizes.encoders(),
        "parameters": _parameters(opened.own),
        "not_finite": not_finite(opened.own),
        "weights": {
            name: {"shape": list(tensor.shape), "dtype": _dtype(tensor)}
            for name, tensor in opened.own.items()
        },
        "dropped": opened.translated.dropped,
    }


def _fields(opened: Opened) -> list[tuple[str, str]]:
    """The head of what people read."""
    sizes = describe(opened.translated.weights)
    parts = Counter(name.partition(".")[0] for name in opened.translated.weights)
    kinds = Counter(_dtype(tensor) for tensor in opened.own.values())
    fields = [
        ("format", opened.format.name),
        ("encoder", "none that mimray has" if sizes is None else str(sizes)),
        ("parameters", f"{_parameters(opened.own):,} in {len(opened.own):,} tensors"),
        ("dtype", ", ".join(kinds)),
        ("parts", ", ".join(f"{part} ({count})" for part, count in parts.items())),
    ]
    reasons: dict[str, list[str]] = {}
    for name, reason in opened.translated.dropped.items():
        reasons.setdefault(reason, []).append(name)
    fields += [("not taken", f"{shorten(names)}: {why}") for why, names in reasons.items()]
    if broken := not_finite(opened.own):
        fields.append(("damaged", f"{shorten(broken)}: NaN or infinity"))
    return fields


def _table(weights: dict[str, Tensor]) -> list[str]:
    """A line for what every block has, with the shapes that it has and how many blocks have them."""
    rows: dict[str, Counter[str]] = {}
    for name, tensor in weights.items():
        rows.setdefault(_NUMBER.sub("*", name), Counter())[_shape(tensor)] += 1
    width = max(map(len, rows))
    return [
        f"  {name:<{width}}  "
        + ", ".join(f"{shape} ({n})" if n > 1 else shape for shape, n in shapes.items())
        for name, shapes in rows.items()
    ]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _parameters(weights: dict[str, Tensor]) -> int:
    """Numbers that are learned or running statistics; counters and indices are whole numbers."""
    return sum(tensor.numel() for tensor in weights.values() if tensor.is_floating_point())
