"""What `mimray doctor --profile` prints, from the objects that `--json` shows."""

from __future__ import annotations

from typing import Any

from mimray.mim.memory_estimate import NOT_COUNTED
from mimray.recipe import Recipe
from mimray.train.console import duration


def lines_of_prediction(recipe: Recipe, p: dict[str, Any]) -> list[str]:
    """The prediction, a figure a line; each says what it rests on."""
    gib = p["memory_gib"]
    parts = ", ".join(f"{name} {_size(part)}" for name, part in gib.items() if name != "total")
    return [
        "",
        f"predicted for {p['trainers']} trainer(s), {p['precision']}",
        _line("parameters", f"{p['parameters'] / 1e6:.1f} M"),
        _line(
            "operations",
            f"{p['gflop_forward']:.2f} GFLOP a picture forward, {p['gflop_training']:.2f} in training",
        ),
        _line(
            "memory",
            f"{_size(gib['total'])} a trainer at micro-batch {p['micro_batch']}: {parts}",
        ),
        _line("", f"not counted: {NOT_COUNTED}"),
        _line(
            "matrix rate",
            f"{p['tflop_per_s']:.3g} TFLOP/s, measured here in {p['precision']}: {p['device']}",
        ),
        _line(f"at {p['mfu']:.0%} MFU", _times(p, recipe.schedule.length)),
    ]


def lines_of_measurement(m: dict[str, Any]) -> list[str]:
    """The measurement, and where the time of a step goes."""
    shares, seconds = m["shares"], m["seconds_a_step"]
    why = {
        "data_wait": "waiting for pictures",
        "compute": "forward, backward, update",
        "report": f"{m['report_s'] * 1e3:.1f} ms every {m['report_every']} steps",
        "checkpoint": f"{m['checkpoint_stall_s'] * 1e3:.1f} ms every {m['checkpoint_every']} steps",
    }
    return [
        "",
        f"measured over {m['steps']} steps of {m['batch']} pictures, validation left out",
        _line("speed", f"{m['mfu']:.1%} MFU: {_times(m, 'the whole run')}"),
        _line("peak memory", f"{_size(m['peak_memory_gib'])}, of the first trainer"),
        _line("a step", f"{seconds:.3f} s"),
        *(
            _line("  " + name.replace("_", " "), f"{share:6.1%}  {why[name]}")
            for name, share in shares.items()
        ),
    ]


def _line(name: str, text: str) -> str:
    return f"  {name:<13} {text}"


def _times(t: dict[str, Any], length: str) -> str:
    """Pictures a second, epochs a day, and how long the run takes, as far as they are known."""
    words = [f"{_short(t['images_per_s'])} pictures/s"]
    if t["epochs_per_day"] is not None:
        words.append(f"{_short(t['epochs_per_day'])} epochs a day")
    if t["hours"] is not None:
        words.append(f"{length} in {duration(t['hours'] * 3600)}")
    return ", ".join(words)


def _short(value: float) -> str:
    """Three digits, or the whole number where it has more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _size(gib: float) -> str:
    return f"{gib:.2f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"
