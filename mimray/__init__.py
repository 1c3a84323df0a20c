"""mimray: masked image modeling as one platform on Ray.

The names below are the Python interface; they load torch only when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimray.mim.build import build_model
    from mimray.recipe import Recipe, load_recipe

__version__ = "0.1.0"
__all__ = ["Recipe", "build_model", "load_recipe"]

_HOMES = {
    "build_model": "mimray.mim.build",
    "Recipe": "mimray.recipe",
    "load_recipe": "mimray.recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mimray' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
