"""Out of memory is said once, with the setting to change."""

import pytest
import ray
import torch

from mimray.recipe import load_recipe
from mimray.train.memory import out_of_memory

pytestmark = pytest.mark.unit
RECIPE = load_recipe("demo")


def test_the_host_s_allocator():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    words = out_of_memory(caught.value, RECIPE, 64)
    assert words.startswith("out of memory at ") and f"asking for {2**52} bytes more" in words
    assert "lower speed.micro_batch=64 or set speed.checkpoint_stages=[1]" in words
    assert "\n" not in words


def test_cuda_s():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.50 GiB. GPU 0 has ...")
    words = out_of_memory(error, RECIPE, 8)
    assert words.startswith("out of GPU memory at 0.0 GiB, asking for 3.50 GiB more: lower")


def test_ray_s_end_of_a_trainer():
    error = ray.exceptions.OutOfMemoryError(
        "Task was killed due to the node running low on memory."
    )
    assert "memory of the host (Ray ended a trainer): lower" in out_of_memory(error, RECIPE, 8)


def test_what_cannot_be_lowered_is_not_named():
    recipe = load_recipe("demo", ["speed.checkpoint_stages=[1]"])
    assert "take a host with more" in out_of_memory(MemoryError(), recipe, 1)


def test_other_errors_are_none():
    assert out_of_memory(RuntimeError("shape mismatch"), RECIPE, 8) is None
