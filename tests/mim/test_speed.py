"""`benchmarks.step` compares like with like, and runs where only torch and timm are installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.step import CASES, Case, Training, compare, flops, pair
from mimray.mim.encoders import ENCODERS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pydantic", "ray", "pyarrow", "mlflow"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from benchmarks.step import Case, Training, pair
ours, theirs = pair("swinv2_nano", Case(96, 6, 2))
print(Training(ours, Case(96, 6, 2), 4, 2, "cpu").step() > 0)
"""


@pytest.mark.parametrize("name", ["swin_nano", "swinv2_nano", "vit_nano"])
def test_both_train_alike(name):
    case = Case(96, ENCODERS[name].window, 2)
    losses = []
    for model in pair(name, case):
        training = Training(model, case, ENCODERS[name].patch, 2, "cpu")
        losses.append([float(training.step()) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != losses[0][-1]


@pytest.mark.parametrize(
    ("name", "billions"),
    [("swinv2_base", 71.8), ("vit_base", 106.1)],
)
def test_operations_of_a_picture(name, billions):
    """Counted by hand with the same counter, three times the forward pass: within 1 %."""
    assert flops(name, CASES[name]) / 1e9 == pytest.approx(billions, rel=0.01)


def test_it_needs_torch_and_timm_alone():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tensor(True)\n"


def test_what_is_reported(monkeypatch):
    monkeypatch.setitem(CASES, "vit_nano", Case(96, None, 2))
    figures, seen = compare("vit_nano", 2, "cpu", 0.0)
    figure = figures["vit_nano"]
    assert figure["target"] == 0.98 and figure["unit"] == "images/CPU-s"
    assert figure["ratio"] == pytest.approx(figure["ours"] / figure["theirs"])
    assert seen["batch"] == 2
