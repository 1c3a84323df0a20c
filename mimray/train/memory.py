"""Out of memory, in words that say what to change."""

from __future__ import annotations

import re
import resource

import ray
import torch

from mimray.recipe import TrainingRecipe


def out_of_memory(error: BaseException, recipe: TrainingRecipe, micro_batch: int) -> str | None:
    """One line with the peak and the settings that lower it, or None for an error of another kind.

    Understood: CUDA's, that of the host's allocator, and Ray's end of a trainer that took too much.
    """
    if isinstance(error, torch.OutOfMemoryError):
        where, peak = "GPU memory", torch.cuda.max_memory_allocated() / 2**30
    elif isinstance(error, ray.exceptions.OutOfMemoryError):
        where, peak = "memory of the host (Ray ended a trainer)", None
    elif isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        where = "memory"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    else:
        return None
    asked = re.search(r"allocate (\S+ [KMGT]?i?[Bb](?:ytes)?|\d+ bytes)", str(error))
    reached = "" if peak is None else f" at {peak:.1f} GiB"
    more = f", asking for {asked.group(1)} more" if asked else ""
    settings = [f"lower speed.micro_batch={micro_batch}"] if micro_batch > 1 else []
    if not recipe.speed.checkpoint_stages:
        settings.append("set speed.checkpoint_stages=[1] or more of the encoder's stages")
    mend = " or ".join(settings) or "take a host with more"
    return f"out of {where}{reached}{more}: {mend} (the result stays the same)"
