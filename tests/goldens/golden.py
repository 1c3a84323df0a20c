"""Golden files: inputs and results of the official code, and how near ours must come.

`MIMRAY_GOLDENS` names another folder of the same form; README.md says what each file holds.
"""

import json
import os
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(os.environ.get("MIMRAY_GOLDENS", Path(__file__).parent)).resolve()

torch.set_num_threads(1)  # as the official code ran


def stems(pattern):
    """Names of the golden files there are, without their suffix."""
    return sorted(path.stem for path in FOLDER.glob(f"{pattern}.json"))


class Golden:
    """One golden: `info` from its JSON and `arrays` from its npz, where it has one."""

    def __init__(self, stem, folder=FOLDER):
        self.info = json.loads((folder / f"{stem}.json").read_text())
        file = folder / f"{stem}.npz"
        self.arrays = dict(np.load(file, allow_pickle=False)) if file.exists() else {}
        tolerances = json.loads((folder / "tolerances.json").read_text())["tolerances"]
        self.tolerances = [t for t in tolerances if Path(t["file"]).stem == stem]

    def tensor(self, key):
        return torch.tensor(self.arrays[key])

    def weights(self, *prefixes):
        """Tensors by the names that follow one of the prefixes."""
        return {
            key.removeprefix(prefix): self.tensor(key)
            for prefix in prefixes
            for key in self.arrays
            if key.startswith(prefix)
        }

    def computed(self, pattern="*"):
        """Keys of results, which have a tolerance, as inputs have none."""
        return {key for key in self.arrays if self._tolerances(key) and fnmatchcase(key, pattern)}

    def _tolerances(self, key):
        return [t for t in self.tolerances if fnmatchcase(key, t["keys"])]

    def compare(self, got, pattern="*"):
        """`got` holds every result that matches, by key, and each is within its strict tolerance."""
        assert set(got) == self.computed(pattern)
        assert got
        errors = {key: self._error(key, value) for key, value in got.items()}
        far = {key: error for key, error in errors.items() if not error <= 1}  # NaN is far
        assert not far, f"times the tolerance: {far}"

    def check(self, key, value, which=...):
        """A result is within its strict tolerance, at the places `which` of it."""
        assert self._error(key, value, which) <= 1, key

    def _error(self, key, value, which=...):
        """How many times the tolerance a result is off."""
        (tolerance,) = self._tolerances(key)
        expected = np.asarray(self.arrays[key])[which].astype(np.float64)
        value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
        assert value.shape == expected.shape, key
        limit = self._limit(tolerance["rule"], tolerance["strict"], key, expected)
        return excess(np.abs(value.astype(np.float64) - expected), limit)

    def _limit(self, rule, strict, key, expected):
        group = key.partition("/")[0] + "/"
        return {
            "exact": lambda: 0.0,
            "abs": lambda: strict,
            "rel": lambda: strict * np.abs(expected),
            "scale": lambda: strict * np.abs(expected).max(),
            "norms": lambda: (
                strict * np.abs(expected)
                + 2e-5 * max(v.max() for k, v in self.arrays.items() if k.startswith(group))
            ),
        }[rule]()


def excess(difference, limit):
    """The largest difference in units of its limit; what is equal is within any limit."""
    return float(np.max(np.where(difference == 0, 0.0, difference / np.maximum(limit, 1e-300))))
