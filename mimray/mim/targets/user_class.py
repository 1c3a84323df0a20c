"""A class of the user's, by name: from an installed package, or from a file."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from torch import nn


def load_class(name: str) -> type[nn.Module]:
    """`package.module:Class`, or `path/to/file.py:Class`, whose code is run.

    Raises ValueError where there is no such module or class, or it cannot be imported.
    """
    place, _, wanted = name.rpartition(":")
    if not place or not wanted:
        raise ValueError(
            f"target.module={name}: write it as package.module:Class or path/to/file.py:Class"
        )
    try:
        module = (
            _from_file(Path(place).expanduser()) if place.endswith(".py") else import_module(place)
        )
    except FileNotFoundError:
        raise ValueError(f"target.module={name}: no such file on this host") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"target.module={name}: no module {error.name}") from error
    except Exception as error:  # the user's code, which may fail in any way
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"target.module={name}: cannot be imported: {why}") from error
    found = getattr(module, wanted, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        held = [
            n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, nn.Module)
        ]
        raise ValueError(
            f"target.module={name}: no nn.Module of that name in it; there are {', '.join(held) or 'none'}"
        )
    return found


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module of its own; once, so that its classes stay the same."""
    place = path.resolve(strict=True)
    name = f"mimray_user:{place}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None, "its name ends in .py"
    sys.modules[name] = module = module_from_spec(spec)  # before it runs: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
