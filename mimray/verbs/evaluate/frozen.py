"""`mimray evaluate linear|knn --from CKPT --data URI`: probes of frozen features, layer by layer."""

from __future__ import annotations

import argparse

from mimray.errors import UserError
from mimray.evaluate.checkpoint import open_checkpoint
from mimray.evaluate.frozen import Question, Record, absolute_data
from mimray.evaluate.workers import here, on_ray
from mimray.train.console import Console
from mimray.train.run_folder import to_json
from mimray.verbs.evaluate import check_writable, percent, storage_of
from mimray.verbs.screen import screen


def run(arguments: argparse.Namespace) -> int:
    """Extract, probe and print a table, or one JSON object with `--json`."""
    from mimray.report.accuracy import layer_accuracy

    if not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed {arguments.seed}: must be 0 to 2^63 - 1")
    console = Console()
    checkpoint = open_checkpoint(
        arguments.weights,
        arguments.encoder,
        arguments.image_size,
        arguments.window,
        arguments.pretrained_windows,
    )
    question = Question(
        kind=arguments.action,
        checkpoint=checkpoint,
        data=absolute_data(arguments.data),
        val=absolute_data(arguments.val or arguments.data),
        storage=storage_of(arguments.storage),
        layers=arguments.layers,
        pooling=arguments.pooling,
        labels=arguments.labels,
        upright=arguments.upright,
        seed=arguments.seed,
    )
    check_writable(question.storage)
    workers = here if arguments.here else lambda: on_ray(console.say)
    record, already = question.answer(layer_accuracy, console.say, workers)
    if arguments.json:
        print(to_json(record), flush=True)
    else:
        _print(record, already)
    return 0


def _print(record: Record, already: bool) -> None:
    from rich.table import Table

    out = screen()
    if already:
        again = "; another --seed makes another one" if record["kind"] == "linear" else ""
        out.print(f"{record['name']} is finished{again}.")
    several = "map11" in record["layers"][0]
    of_one = {"top1": "top-1", "mean_per_class": "mean per class"}
    metrics = {"map11": "11-point mAP"} if several else of_one
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for name in (*metrics.values(), "rate" if record["kind"] == "linear" else "k"):
        table.add_column(name, justify="right")
    for row in record["layers"]:
        last = f"{row['rate']:.3g}" if "rate" in row else str(row["k"])
        table.add_row(row["layer"], *(percent(row[name]) for name in metrics), last)
    out.print(table)
    why = "best on held-out training pictures" if record["kind"] == "linear" else "the last of them"
    photos = record["photos"]
    out.print(
        f"{record['chosen']['layer']} ({why}) stands for all; {photos['val']} test pictures of "
        f"{record['classes']} classes, {photos['train']} to learn from"
    )
    out.print(f"{record['uri']}/accuracy.png, result.json")
